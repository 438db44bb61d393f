// SPDX-License-Identifier: Apache-2.0
// A peer without manners, at either end: connects to a fabric's port, or is connected to, and sends
// what the test wants.
#pragma once

#include "messages/wire/codec.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/tcp/tcp_hello.hpp"
#include "transport/tcp/tcp_record.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

namespace kvferry::testing {

class raw_peer {
public:
    explicit raw_peer(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
        limit_waits();
    }
    /// Connected already.
    explicit raw_peer(unique_fd fd) : fd_(std::move(fd)) {
        REQUIRE(fd_);
        limit_waits();
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
    /// The next bytes; fewer when the other side ends the connection before.
    byte_buffer next(std::size_t bytes) {
        byte_buffer result(bytes);
        const auto got =
            bytes == 0 ? 0 : ::recv(fd_.get(), result.data(), result.size(), MSG_WAITALL);
        result.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        return result;
    }
    struct record {
        std::uint8_t what = 0;
        byte_buffer payload;

        bool is(tcp_record x) const { return what == static_cast<std::uint8_t>(x); }
        bool is(fabric_message x) const { return what == static_cast<std::uint8_t>(x); }
    };
    record next_record() {
        record_head head;
        const auto bytes = next(sizeof head);
        REQUIRE(bytes.size() == sizeof head);
        std::memcpy(static_cast<void*>(&head), bytes.data(), sizeof head);
        (void)next(head.head_bytes);
        return {head.what, next(head.payload_bytes)};
    }
    template <class What>
    bool send_record(What what, byte_view payload = {}) {
        return send_record(static_cast<std::uint8_t>(what), {}, payload, payload.size());
    }
    /// Waits for the other side's welcome.
    bool is_welcome() { return next_record().is(tcp_record::welcome); }
    int fd() const { return fd_.get(); }
    void close() { fd_.reset(); }

private:
    void limit_waits() {
        const timeval patience{30, 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }

    unique_fd fd_;
};

/// Where fabrics connect to: says nothing by itself, and lets nobody in that the test does not.
class raw_door {
public:
    raw_door() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(::listen(fd_.get(), 8) == 0);
        socklen_t size = sizeof at;
        REQUIRE(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
        port_ = ntohs(at.sin_port);
    }

    /// The same rank's address, as if it were here.
    byte_buffer instead_of(tcp_address address) const {
        address.port = port_;
        address.hosts = {"127.0.0.1"};
        return pack_address(address);
    }
    /// Whoever connects next, with its hello read.
    raw_peer accept() {
        raw_peer result{unique_fd{::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)}};
        REQUIRE(result.next(tcp_hello_bytes).size() == tcp_hello_bytes);
        return result;
    }

private:
    unique_fd fd_;
    std::uint16_t port_ = 0;
};

} // namespace kvferry::testing
