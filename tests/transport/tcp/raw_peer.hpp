// SPDX-License-Identifier: Apache-2.0
// A client without manners: connects to a fabric's port and sends what the test wants.
#pragma once

#include "messages/wire/codec.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/tcp/tcp_hello.hpp"
#include "transport/tcp/tcp_record.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>

namespace kvferry::testing {

class raw_peer {
public:
    explicit raw_peer(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
        const timeval patience{30, 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }

    /// False: the other side has ended the connection.
    bool send(byte_view bytes) {
        while (!bytes.empty()) {
            const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0)
                return false;
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
        }
        return true;
    }
    bool send(const std::string& text) {
        return send({reinterpret_cast<const caf::byte*>(text.data()), text.size()});
    }
    /// A record with a message's head and the first `now` bytes of its payload.
    bool send_record(std::uint8_t what, byte_view head, byte_view payload,
                     std::uint64_t announced) {
        const record_head record{.what = what,
                                 .head_bytes = static_cast<std::uint16_t>(head.size()),
                                 .payload_bytes = announced};
        return send({reinterpret_cast<const caf::byte*>(&record), sizeof record}) && send(head)
               && send(payload);
    }

    /// Everything until the other side ends the connection.
    std::string rest() {
        std::string result;
        char buffer[4096];
        for (;;) {
            const auto got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
            if (got < 0)
                REQUIRE_MESSAGE(errno == ECONNRESET, "the other side does not end it");
            if (got <= 0)
                return result;
            result.append(buffer, static_cast<std::size_t>(got));
        }
    }
    /// Waits for the other side's welcome.
    bool is_welcome() {
        record_head record;
        const auto got = ::recv(fd_.get(), &record, sizeof record, MSG_WAITALL);
        return got == sizeof record
               && record.what == static_cast<std::uint8_t>(tcp_record::welcome);
    }
    int fd() const { return fd_.get(); }

private:
    unique_fd fd_;
};

} // namespace kvferry::testing
