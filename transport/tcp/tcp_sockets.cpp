// SPDX-License-Identifier: Apache-2.0
// Addresses of either family; every socket is close-on-exec and does not block.
#include "transport/tcp/tcp_sockets.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/loop/forked_child.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>
#include <vector>

namespace kvferry {

namespace {

struct socket_address {
    sockaddr_storage bytes{};
    socklen_t length = 0;

    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&bytes); }
};

std::optional<socket_address> address_of(const std::string& host, std::uint16_t port) {
    socket_address result;
    if (auto* v4 = reinterpret_cast<sockaddr_in*>(&result.bytes);
        ::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        result.length = sizeof *v4;
        return result;
    }
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.bytes);
    if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) != 1)
        return std::nullopt;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    result.length = sizeof *v6;
    return result;
}

void set(int fd, int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value); // what fails is a default less
}

caf::expected<unique_fd> bound_to(const std::string& host, bool both_families) {
    const auto where = address_of(host, 0);
    if (!where)
        return make_error(errc::invalid_argument, "'{}' is no IP address", host);
    unique_fd fd;
    if (!made_to_fail("socket"))
        fd = unique_fd{
            ::socket(where->get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!fd)
        return system_error(errc::system_call_failed, "socket");
    if (where->get()->sa_family == AF_INET6)
        set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, both_families ? 0 : 1);
    if (made_to_fail("bind") || ::bind(fd.get(), where->get(), where->length) != 0)
        return system_error(errc::system_call_failed, "bind(" + host + ")");
    if (made_to_fail("listen") || ::listen(fd.get(), SOMAXCONN) != 0)
        return system_error(errc::system_call_failed, "listen(" + host + ")");
    return fd;
}

caf::error connect_error(int number) {
    return system_error(number == ECONNREFUSED ? errc::dial_failed : errc::link_lost, "connect",
                        number);
}

} // namespace

caf::expected<unique_fd> tcp_listen(const std::string& host) {
    if (!host.empty() && !is_wildcard(host))
        return bound_to(host, false);
    auto both = bound_to("::", true);
    return both ? std::move(both) : bound_to("0.0.0.0", false); // a machine without IPv6
}

std::uint16_t port_of(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0)
        return 0;
    return address.ss_family == AF_INET6
               ? ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port)
               : ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

caf::expected<unique_fd> tcp_dial(const std::string& host, std::uint16_t port) {
    const auto where = address_of(host, port);
    if (!where)
        return make_error(errc::link_lost, "'{}' is no IP address", host);
    unique_fd fd;
    if (!made_to_fail("socket"))
        fd = unique_fd{
            ::socket(where->get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!fd)
        return system_error(errc::link_lost, "socket");
    if (made_to_fail("connect")
        || (::connect(fd.get(), where->get(), where->length) != 0 && errno != EINPROGRESS))
        return connect_error(errno);
    return fd;
}

caf::error connect_result(int fd) {
    int problem = 0;
    socklen_t length = sizeof problem;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &length) != 0)
        problem = errno;
    return problem == 0 ? caf::error{} : connect_error(problem);
}

std::string peer_name(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    char text[INET6_ADDRSTRLEN] = {};
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0)
        return "?";
    std::uint16_t port = 0;
    if (address.ss_family == AF_INET6) {
        const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
        ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
        port = ntohs(v6.sin6_port);
    } else {
        const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
        ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
        port = ntohs(v4.sin_port);
    }
    return std::string{text} + " port " + std::to_string(port);
}

void prepare_connection(int fd, std::chrono::milliseconds patience) {
    using std::chrono::seconds;
    const auto idle =
        static_cast<int>(std::max(seconds{1}, std::chrono::ceil<seconds>(patience)).count());
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 2 * idle);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, idle);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(patience.count()));
}

void let_go_of_polled(int epoll_fd) {
    std::ifstream watched{"/proc/self/fdinfo/" + std::to_string(epoll_fd)};
    std::vector<int> all{epoll_fd};
    for (std::string word; watched >> word;)
        if (int fd = -1; word == "tfd:" && watched >> fd)
            all.push_back(fd);
    for (auto fd : all)
        blank_descriptor(fd);
}

void abandon_connection(int fd) noexcept {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

} // namespace kvferry
