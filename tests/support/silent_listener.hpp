// SPDX-License-Identifier: Apache-2.0
// A server that is there and says nothing.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <string>
#include <sys/socket.h>

namespace kvferry::testing {

/// A port that accepts connections and never answers by itself.
class silent_listener {
public:
    silent_listener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        address_.sin_family = AF_INET;
        address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address_;
        auto* any = reinterpret_cast<sockaddr*>(&address_);
        REQUIRE(::bind(socket_.get(), any, size) == 0);
        REQUIRE(::listen(socket_.get(), 8) == 0);
        REQUIRE(::getsockname(socket_.get(), any, &size) == 0);
        endpoint = "127.0.0.1:" + std::to_string(ntohs(address_.sin_port));
    }

    unique_fd connect() const {
        unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const auto* any = reinterpret_cast<const sockaddr*>(&address_);
        REQUIRE(::connect(socket.get(), any, sizeof address_) == 0);
        return socket;
    }
    unique_fd accept(int flags = 0) const {
        return unique_fd{::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | flags)};
    }

    std::string endpoint;

private:
    unique_fd socket_;
    sockaddr_in address_{};
};

} // namespace kvferry::testing
