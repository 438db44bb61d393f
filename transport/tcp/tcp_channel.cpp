// SPDX-License-Identifier: Apache-2.0
// Reading and writing take turns by bytes, here and between the sockets of a wire.
#include "transport/tcp/tcp_channel.hpp"

#include "messages/values/error_format.hpp"
#include "transport/tcp/tcp_sockets.hpp"

#include <sys/epoll.h>
#include <utility>

namespace kvferry {

namespace {

/// Read or written of one socket before others get their turn.
constexpr std::uint64_t turn_bytes = std::uint64_t{256} << 10;

} // namespace

caf::expected<std::unique_ptr<tcp_channel>>
tcp_channel::make(socket_poll& poll, std::unique_ptr<byte_stream> stream, bool connecting,
                  tcp_reader in, tcp_outbox& out, owner& owned_by, std::optional<flow> bulk,
                  tcp_movers* movers) {
    std::unique_ptr<tcp_channel> result{
        new tcp_channel(std::move(stream), connecting, std::move(in), out, owned_by)};
    if (bulk && movers) {
        movers->prepare();
        result->movers_ = movers;
    }
    auto watched = poll.watch(result->fd(), connecting ? EPOLLOUT : EPOLLIN, *result, bulk);
    if (!watched)
        return std::move(watched.error());
    result->registration_ = std::move(*watched);
    return result;
}

void tcp_channel::ready(std::uint32_t events) {
    if (now_ == phase::connecting) {
        if (events == 0)
            return;
        if (auto problem = connect_result(fd()))
            return end(std::move(problem));
        now_ = phase::securing;
    }
    if (now_ == phase::securing)
        secure();
    if (events & EPOLLOUT)
        blocked_ = false;
    if (is_apart()) { // whatever there is, it is looked at when it is handed back
        if (events != 0)
            registration_.want(0);
        return;
    }
    if (now_ == phase::open && (more_ || (events & ~EPOLLOUT) != 0))
        read();
    if (now_ == phase::open && !blocked_ && !is_apart())
        write();
}

void tcp_channel::secure() {
    auto wants = stream_->secure();
    if (!wants)
        return end(std::move(wants.error()));
    registration_.want(*wants ? *wants : EPOLLIN);
    if (*wants)
        return;
    now_ = phase::open;
    owner_.connected(*this);
}

void tcp_channel::read() {
    const auto is_alone = std::exchange(is_alone_, false) && !may_hand_over();
    auto progress = in_.read(*stream_, turn_bytes, movers_ && !is_alone);
    registration_.moved(progress.bytes);
    const auto is_long_next = progress.is_long_next;
    after_read(std::move(progress));
    if (now_ != phase::open || !is_long_next)
        return;
    if (may_hand_over())
        if (const auto parts = in_.begin_apart(); !parts.empty())
            return hand_over(apart::reads, parts);
    // Others may be ready by now, too. Or it has been refused, and is forgotten in the next turn.
    is_alone_ = more_ = true;
    registration_.soon();
}

void tcp_channel::after_read(tcp_reader::progress progress) {
    if (now_ != phase::open) // what arrived has ended it
        return;
    if (progress.problem)
        return end(std::move(progress.problem));
    if (progress.ended)
        return end({});
    more_ = progress.bytes >= turn_bytes;
    if (more_)
        registration_.soon();
}

// -- what movers do -----------------------------------------------------------------------------

/// Who is alone loses by two wake-ups for each call.
bool tcp_channel::may_hand_over() const {
    return movers_ && movers_->has_room() && (movers_->is_busy() || registration_.others_wait());
}

void tcp_channel::hand_over(apart how, std::span<const iovec> parts) {
    apart_ = how;
    if (how == apart::reads) // there is something to read until that has been done
        registration_.want(0);
    movers_->hand_over({this, stream_.get(), parts, how == apart::writes});
}

void tcp_channel::handed_back(bytes_moved moved) {
    registration_.moved_apart(moved.bytes);
    const auto how = std::exchange(apart_, apart::no);
    if (now_ == phase::over)
        return how == apart::reads ? in_.forget_apart() : owner_.done_writing(*this);
    if (how == apart::reads) {
        auto progress = in_.end_apart(std::move(moved));
        const auto is_full = progress.is_full;
        after_read(std::move(progress));
        more_ = is_full;
    } else {
        std::vector<std::uint64_t> tags;
        auto progress = out_->written_apart(std::move(moved), tags);
        after_write(*out_, std::move(progress), tags);
    }
    if (now_ != phase::open)
        return;
    registration_.want(blocked_ ? EPOLLIN | EPOLLOUT : EPOLLIN);
    if (more_ || (!blocked_ && has_to_write()))
        registration_.soon();
}

bool tcp_channel::has_to_write() const {
    return !prologue_.empty() || !out_->empty();
}

void tcp_channel::write() {
    if (!prologue_.empty() || drops_protection_) {
        if (!flush() || !write(prologue_) || !prologue_.empty() || blocked_)
            return;
        if (std::exchange(drops_protection_, false))
            stream_->drop_protection();
    }
    if (may_hand_over()) // with what the stream has kept
        if (const auto parts = out_->begin_apart(); !parts.empty())
            return hand_over(apart::writes, parts);
    if (flush() && write(*out_) && !blocked_)
        (void)flush();
}

/// What the stream has kept comes first. False: it is over, or the socket takes no more.
bool tcp_channel::flush() {
    auto kept = stream_->flush();
    if (kept.problem)
        end(std::move(kept.problem));
    if (now_ != phase::open)
        return false;
    if (kept.blocked) {
        blocked_ = true;
        registration_.want(EPOLLIN | EPOLLOUT);
    }
    return !kept.blocked;
}

/// False: it is over.
bool tcp_channel::write(tcp_outbox& from) {
    std::vector<std::uint64_t> tags;
    auto progress = from.write(*stream_, turn_bytes, tags);
    registration_.moved(progress.bytes);
    after_write(from, std::move(progress), tags);
    return now_ == phase::open;
}

void tcp_channel::after_write(tcp_outbox& from, tcp_outbox::progress progress,
                              const std::vector<std::uint64_t>& tags) {
    blocked_ = progress.blocked;
    registration_.want(blocked_ ? EPOLLIN | EPOLLOUT : EPOLLIN);
    if (!blocked_ && !from.empty())
        registration_.soon();
    if (!tags.empty())
        owner_.posted(*this, tags);
    if (progress.problem)
        end(std::move(progress.problem));
}

void tcp_channel::stop() {
    now_ = phase::over;
    registration_.reset();
}

void tcp_channel::end(caf::error why) {
    stop();
    owner_.over(*this, std::move(why));
}

} // namespace kvferry
