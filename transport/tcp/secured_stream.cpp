// SPDX-License-Identifier: Apache-2.0
// A secure_stream in the words of the tcp wire; past it where its bytes are plain.
#include "transport/tcp/secured_stream.hpp"

#include <sys/epoll.h>
#include <utility>

namespace kvferry {

namespace {

class secured_stream final : public byte_stream {
public:
    secured_stream(unique_fd fd, stream_role role, security_ptr how, bool may_kernel_encrypt)
        : how_(std::move(how)), role_(role), plain_(std::move(fd)),
          stream_(how_->open(role, stream_carrier{plain_.fd()})) {
        if (may_kernel_encrypt)
            stream_->let_kernel_encrypt();
    }

    int fd() const override { return plain_.fd(); }

    caf::expected<std::uint32_t> secure() override {
        if (!std::exchange(looked_, true))
            if (auto problem = role_ == stream_role::dialler ? how_->check_dialled(fd())
                                                             : how_->check_accepted(fd()))
                return problem;
        auto wants = stream_->handshake();
        if (!wants)
            return std::move(wants.error());
        return *wants == stream_want::read    ? std::uint32_t{EPOLLIN}
               : *wants == stream_want::write ? std::uint32_t{EPOLLOUT}
                                              : 0;
    }

    bytes_moved read(std::span<const iovec> to) override {
        if (stream_->is_bare())
            return plain_.read(to);
        auto moved = stream_->read(to);
        if (!moved)
            return {.problem = std::move(moved.error())};
        return {.bytes = moved->bytes,
                .blocked = moved->bytes == 0 && moved->wants != stream_want::nothing,
                .ended = moved->ended};
    }

    bytes_moved write(std::span<const iovec> from) override {
        if (stream_->is_bare())
            return plain_.write(from);
        auto moved = stream_->write(from);
        if (!moved)
            return {.problem = std::move(moved.error())};
        return {.bytes = moved->bytes, .blocked = moved->wants != stream_want::nothing};
    }

    bytes_moved flush() override {
        auto wants = stream_->flush();
        if (!wants)
            return {.problem = std::move(wants.error())};
        return {.blocked = *wants != stream_want::nothing};
    }

    void drop_protection() override { stream_->drop_protection(); }
    void finish() override {
        stream_->finish();
        plain_.finish();
    }

private:
    security_ptr how_;
    stream_role role_;
    plain_stream plain_;
    secure_stream_ptr stream_;
    bool looked_ = false;
};

} // namespace

std::unique_ptr<byte_stream> make_secured_stream(unique_fd fd, stream_role role, security_ptr how,
                                                 bool may_kernel_encrypt) {
    return std::make_unique<secured_stream>(std::move(fd), role, std::move(how),
                                            may_kernel_encrypt);
}

} // namespace kvferry
