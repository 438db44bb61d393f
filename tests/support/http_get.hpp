// SPDX-License-Identifier: Apache-2.0
// Talks HTTP to an address of this machine, one connection per request.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <arpa/inet.h>
#include <charconv>
#include <netinet/in.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>

namespace kvferry::testing {

struct http_reply {
    int status = 0;
    std::string head;
    std::string body;
};

/// Connects to "127.0.0.1:port". Waits at most 10 s for each byte.
inline unique_fd http_connect(const std::string& endpoint) {
    const auto port = endpoint.substr(endpoint.rfind(':') + 1);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
    unique_fd result{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const timeval patience{10, 0};
    ::setsockopt(result.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (::connect(result.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        throw std::runtime_error{"nobody listens at " + endpoint};
    return result;
}

/// Everything until the other side closes.
inline std::string read_all(const unique_fd& from) {
    std::string result;
    char bytes[4096];
    for (ssize_t count = 0; (count = ::recv(from.get(), bytes, sizeof bytes, 0)) > 0;)
        result.append(bytes, static_cast<std::size_t>(count));
    return result;
}

inline http_reply http_raw(const std::string& endpoint, std::string_view request) {
    const auto socket = http_connect(endpoint);
    while (!request.empty()) {
        const auto count = ::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL);
        if (count <= 0)
            break;
        request.remove_prefix(static_cast<std::size_t>(count));
    }
    const auto all = read_all(socket);
    http_reply result;
    const auto end = all.find("\r\n\r\n");
    if (all.starts_with("HTTP/1.1 ") && end != all.npos) {
        result.status = std::stoi(all.substr(9, 3));
        result.head = all.substr(0, end);
        result.body = all.substr(end + 4);
    }
    return result;
}

inline http_reply http_get(const std::string& endpoint, const std::string& target) {
    return http_raw(endpoint, "GET " + target + " HTTP/1.1\r\nHost: " + endpoint
                                  + "\r\nConnection: close\r\n\r\n");
}

} // namespace kvferry::testing
