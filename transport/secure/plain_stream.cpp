// SPDX-License-Identifier: Apache-2.0
// System calls, and a look at the first bytes that come.
#include "transport/secure/plain_stream.hpp"

#include "messages/errors.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/secure/stream_marks.hpp"

#include <numeric>

namespace kvferry {

namespace {

std::size_t bytes_of(std::span<const iovec> list) {
    return std::accumulate(list.begin(), list.end(), std::size_t{0},
                           [](std::size_t sum, const iovec& x) { return sum + x.iov_len; });
}

class plain_end final : public secure_stream {
public:
    plain_end(stream_role role, stream_carrier carrier) : role_(role), carrier_(carrier) {}

    caf::expected<stream_want> handshake() override { return stream_want::nothing; }

    caf::expected<stream_moved> read(std::span<const iovec> into) override {
        const auto wanted = bytes_of(into);
        for (;;) {
            const auto got = carrier_.read(into);
            if (got > 0) {
                const auto bytes = static_cast<std::size_t>(got);
                if (auto problem = look(into, bytes))
                    return problem;
                return stream_moved{bytes,
                                    bytes < wanted ? stream_want::read : stream_want::nothing};
            }
            if (got == 0)
                return wanted == 0 ? stream_moved{} : stream_moved{0, stream_want::nothing, true};
            if (errno == EAGAIN)
                return stream_moved{0, stream_want::read};
            if (errno != EINTR)
                return system_error(errc::link_lost, "recv");
        }
    }

    caf::expected<stream_moved> write(std::span<const iovec> from) override {
        const auto wanted = bytes_of(from);
        for (;;) {
            const auto sent = carrier_.write(from);
            if (sent >= 0) {
                const auto bytes = static_cast<std::size_t>(sent);
                return stream_moved{bytes,
                                    bytes < wanted ? stream_want::write : stream_want::nothing};
            }
            if (errno == EAGAIN)
                return stream_moved{0, stream_want::write};
            if (errno != EINTR)
                return system_error(errc::link_lost, "send");
        }
    }

    caf::expected<stream_want> flush() override { return stream_want::nothing; }
    void finish() override {}
    void drop_protection() override {}
    bool is_bare() const override { return seen_ == 2 && carrier_.is_socket(); }

private:
    /// The first two bytes of the connection tell an end that has a secret from one that has none.
    caf::error look(std::span<const iovec> into, std::size_t bytes) {
        if (seen_ == 2)
            return {};
        for (const auto& each : into) {
            for (std::size_t i = 0; i < std::min(each.iov_len, bytes) && seen_ < 2; ++i)
                first_[seen_++] = static_cast<const unsigned char*>(each.iov_base)[i];
            bytes -= std::min(each.iov_len, bytes);
        }
        if (seen_ < 2 || !marks::begins_a_record(first_[0], first_[1]))
            return {};
        if (role_ == stream_role::acceptor) {
            const iovec answer{const_cast<unsigned char*>(marks::plain_here.data()),
                               marks::plain_here.size()};
            carrier_.write({&answer, 1});
        }
        return make_error(
            errc::foreign_peer,
            "the other side has a deployment secret or certificates (it speaks TLS), "
            "this process has neither: start it with the same KVFERRY_SECRET_FILE, or "
            "with certificates (worker_options.security)");
    }

    stream_role role_;
    stream_carrier carrier_;
    unsigned char first_[2] = {};
    std::size_t seen_ = 0;
};

} // namespace

secure_stream_ptr make_plain_stream(stream_role role, stream_carrier carrier) {
    return std::make_unique<plain_end>(role, carrier);
}

} // namespace kvferry
