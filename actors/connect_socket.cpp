// SPDX-License-Identifier: Apache-2.0
// connect() without blocking, poll() with a deadline.
#include "actors/connect_socket.hpp"

#include "transport/system_call.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace kvferry {

namespace {

struct free_addresses {
    void operator()(addrinfo* x) const noexcept { ::freeaddrinfo(x); }
};

using address_list = std::unique_ptr<addrinfo, free_addresses>;

caf::expected<address_list> look_up(const info_endpoint& endpoint) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (auto code = ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found))
        return make_error(errc::dial_failed, std::string{"cannot look up the host: "} + ::gai_strerror(code));
    return address_list{found};
}

enum class poll_end { ready, late, hung_up };

poll_end wait_writable(int fd, time_point until, int hang_up) {
    for (;;) {
        pollfd watched[] = {{fd, POLLOUT, 0}, {hang_up, POLLIN, 0}};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock::now());
        const auto ready = ::poll(watched, 2, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30)));
        if (watched[1].revents != 0)
            return poll_end::hung_up;
        if (ready > 0)
            return poll_end::ready;
        if (ready == 0 && clock::now() >= until)
            return poll_end::late;
    }
}

caf::error connect_one(const addrinfo& address, time_point until, int hang_up, unique_fd& into) {
    unique_fd fd{::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!fd)
        return system_error(errc::dial_failed, "socket");
    if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
        if (errno != EINPROGRESS)
            return system_error(errc::dial_failed, "connect");
        switch (wait_writable(fd.get(), until, hang_up)) {
        case poll_end::late:
            return make_error(errc::dial_failed, "nobody answers there");
        case poll_end::hung_up:
            return make_error(errc::stopped, "the dial was given up");
        case poll_end::ready:
            break;
        }
        int reason = 0;
        socklen_t size = sizeof(reason);
        if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &reason, &size) != 0)
            return system_error(errc::dial_failed, "getsockopt");
        if (reason != 0)
            return system_error(errc::dial_failed, "connect", reason);
    }
    into = std::move(fd);
    return {};
}

} // namespace

caf::expected<unique_fd> connect_socket(const info_endpoint& endpoint, time_point until, int hang_up) {
    auto addresses = look_up(endpoint);
    if (!addresses)
        return std::move(addresses.error());
    auto left = 0;
    for (auto* each = addresses->get(); each; each = each->ai_next)
        ++left;
    caf::error last = make_error(errc::dial_failed, "the host has no address");
    for (auto* each = addresses->get(); each; each = each->ai_next, --left) {
        const auto now = clock::now();
        unique_fd result;
        last = connect_one(*each, now + (until - now) / left, hang_up, result);
        if (!last)
            return result;
        if (code_of(last) == errc::stopped)
            break;
    }
    return last;
}

} // namespace kvferry
