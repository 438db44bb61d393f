// SPDX-License-Identifier: Apache-2.0
// System calls that do not block, and poll() with a deadline between them.
#include "actors/instance/timed_socket.hpp"

#include "actors/instance/name_lookup.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/secure/plain_stream.hpp"

#include <algorithm>
#include <cerrno>
#include <netdb.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>

namespace kvferry {

caf::error wait_for(int fd, short events, const patience& limit) {
    for (;;) {
        pollfd watched[] = {{fd, events, 0}, {limit.hang_up, POLLIN, 0}};
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(limit.until - clock::now()).count();
        const auto ready =
            ::poll(watched, 2, static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
        if (watched[1].revents != 0)
            return make_error(errc::stopped, "the call was given up");
        if (ready > 0)
            return {};
        if (ready == 0 && clock::now() >= limit.until)
            return make_error(errc::deadline_exceeded, "nobody answers there");
    }
}

namespace {

caf::error connect_one(const addrinfo& address, const patience& limit, unique_fd& into) {
    unique_fd fd{::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!fd)
        return system_error(errc::dial_failed, "socket");
    if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
        if (errno != EINPROGRESS)
            return system_error(errc::dial_failed, "connect");
        if (auto error = wait_for(fd.get(), POLLOUT, limit))
            return code_of(error) == errc::stopped ? error
                                                   : make_error(errc::dial_failed, text_of(error));
        int reason = 0;
        socklen_t size = sizeof(reason);
        if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &reason, &size) != 0)
            return system_error(errc::dial_failed, "getsockopt");
        if (reason != 0)
            return system_error(reason == ECONNRESET ? errc::link_lost : errc::dial_failed,
                                "connect", reason);
    }
    into = std::move(fd);
    return {};
}

} // namespace

caf::expected<timed_socket> timed_socket::connect(const info_endpoint& endpoint, patience limit,
                                                  time_point look_up_until) {
    auto addresses = name_lookup::of_this_process().find(endpoint, {look_up_until, limit.hang_up});
    if (!addresses)
        return std::move(addresses.error());
    auto left = 0;
    for (const auto* each = addresses->get(); each; each = each->ai_next)
        ++left;
    caf::error last = make_error(errc::dial_failed, "the host has no address");
    for (const auto* each = addresses->get(); each; each = each->ai_next, --left) {
        const auto now = clock::now();
        unique_fd fd;
        last = connect_one(*each, {now + (limit.until - now) / left, limit.hang_up}, fd);
        if (!last)
            return timed_socket{std::move(fd), limit};
        if (code_of(last) == errc::stopped)
            break;
    }
    return last;
}

timed_socket::timed_socket(unique_fd fd, patience limit)
    : fd_(std::move(fd)), limit_(limit),
      stream_(make_plain_stream(stream_role::dialler, stream_carrier{fd_.get()})) {}

caf::error timed_socket::wait_until(stream_want wants) {
    return wait_for(fd_.get(), wants == stream_want::write ? POLLOUT : POLLIN, limit_);
}

caf::error timed_socket::secure(const security& how) {
    if (auto problem = how.check_dialled(fd_.get()))
        return problem;
    stream_ = how.open(stream_role::dialler, stream_carrier{fd_.get()});
    for (;;) {
        auto wants = stream_->handshake();
        if (!wants)
            return std::move(wants.error());
        if (*wants == stream_want::nothing)
            return {};
        if (auto problem = wait_until(*wants))
            return problem;
    }
}

caf::error timed_socket::send(caf::span<const caf::byte> bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
        const iovec rest{const_cast<caf::byte*>(bytes.data()) + done, bytes.size() - done};
        auto sent = stream_->write({&rest, 1});
        if (!sent)
            return std::move(sent.error());
        done += sent->bytes;
        if (done < bytes.size())
            if (auto problem = wait_until(stream_want::write))
                return problem;
    }
    for (;;) {
        auto wants = stream_->flush();
        if (!wants)
            return std::move(wants.error());
        if (*wants == stream_want::nothing)
            return {};
        if (auto problem = wait_until(*wants))
            return problem;
    }
}

caf::error timed_socket::receive(caf::span<caf::byte> bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
        const iovec rest{bytes.data() + done, bytes.size() - done};
        auto got = stream_->read({&rest, 1});
        if (!got)
            return std::move(got.error());
        done += got->bytes;
        if (got->ended)
            return make_error(errc::dial_failed, "the connection was closed without an answer");
        if (done < bytes.size() && got->wants != stream_want::nothing)
            if (auto problem = wait_until(got->wants))
                return problem;
    }
    return {};
}

} // namespace kvferry
