// SPDX-License-Identifier: Apache-2.0
// A server that is there and says nothing.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <string>
#include <sys/socket.h>

namespace kvferry::testing {

/// A port that accepts connections and never answers.
class silent_listener {
public:
    silent_listener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* any = reinterpret_cast<sockaddr*>(&address);
        REQUIRE(::bind(socket_.get(), any, size) == 0);
        REQUIRE(::listen(socket_.get(), 8) == 0);
        REQUIRE(::getsockname(socket_.get(), any, &size) == 0);
        endpoint = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    }

    std::string endpoint;

private:
    unique_fd socket_;
};

} // namespace kvferry::testing
