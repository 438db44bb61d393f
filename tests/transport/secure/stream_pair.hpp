// SPDX-License-Identifier: Apache-2.0
// Two ends of a secured stream, over sockets or over buffers, and what passes between them.
#pragma once

#include "messages/errors.hpp"
#include "tests/support/silent_listener.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/secure/security.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <fcntl.h>
#include <poll.h>
#include <random>
#include <sys/socket.h>
#include <vector>

namespace kvferry::testing {

/// Two connected ends; what one writes the other reads.
struct two_ends {
    explicit two_ends(bool sockets) {
        if (!sockets)
            return;
        int fds[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
        dialler_fd = unique_fd{fds[0]};
        acceptor_fd = unique_fd{fds[1]};
        small_buffers();
    }

    void small_buffers() {
        const int bytes = 4096;
        for (int fd : {dialler_fd.get(), acceptor_fd.get()})
            ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }

    stream_carrier at_dialler() {
        return dialler_fd ? stream_carrier{dialler_fd.get()} : stream_carrier{dialling};
    }
    stream_carrier at_acceptor() {
        return acceptor_fd ? stream_carrier{acceptor_fd.get()} : stream_carrier{accepting};
    }

    /// What a network does.
    void carry() {
        move(dialling.leaving, accepting.arrived);
        move(accepting.leaving, dialling.arrived);
    }
    /// Until one has something to read: TCP takes its time.
    void wait() const {
        pollfd both[]{{dialler_fd.get(), POLLIN, 0}, {acceptor_fd.get(), POLLIN, 0}};
        if (dialler_fd && acceptor_fd)
            ::poll(both, 2, 100);
    }
    static void move(caf::byte_buffer& from, caf::byte_buffer& to) {
        to.insert(to.end(), from.begin(), from.end());
        from.clear();
    }

    unique_fd dialler_fd, acceptor_fd;
    stream_buffers dialling, accepting;
};

/// Of TCP, over loopback.
inline void tcp_sockets(two_ends& of) {
    const silent_listener listener;
    of.dialler_fd = listener.connect();
    of.acceptor_fd = listener.accept();
    for (int fd : {of.dialler_fd.get(), of.acceptor_fd.get()})
        REQUIRE(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
}

struct pair_of_streams : two_ends {
    pair_of_streams(bool sockets, const security& a, const security& b)
        : two_ends(sockets), dialler(a.open(stream_role::dialler, at_dialler())),
          acceptor(b.open(stream_role::acceptor, at_acceptor())) {}

    /// Until both are done, or one has failed and the other has heard of it. Plain streams have no
    /// handshake: they speak a few bytes.
    void shake_hands() {
        for (int round = 0; round < 20; ++round) {
            carry();
            const bool one = step(*dialler, dialler_error, dialler_done);
            carry();
            const bool other = step(*acceptor, acceptor_error, acceptor_done);
            if (one && other)
                return;
        }
        FAIL("the handshake does not end");
    }

    static bool step(secure_stream& end, caf::error& error, bool& done) {
        if (error || done)
            return true;
        auto wants = end.handshake();
        if (!wants)
            error = wants.error();
        else
            done = *wants == stream_want::nothing;
        return error || done;
    }

    secure_stream_ptr dialler, acceptor;
    caf::error dialler_error, acceptor_error;
    bool dialler_done = false, acceptor_done = false;
};

inline std::vector<char> some_bytes(std::size_t count, unsigned seed) {
    std::vector<char> result(count);
    std::minstd_rand random{seed};
    for (auto& each : result)
        each = static_cast<char>(random());
    return result;
}

/// Writes all on one end while the other reads into pieces of the given size.
inline void expect_passage(two_ends& ends, secure_stream& from, secure_stream& to,
                           std::size_t bytes, std::size_t piece_from, std::size_t piece_to) {
    auto sent = some_bytes(bytes, 7);
    std::vector<char> got(bytes);
    std::size_t written = 0, read = 0;
    const auto places = [](std::vector<char>& of, std::size_t at, std::size_t piece) {
        std::vector<iovec> result;
        for (; at < of.size() && result.size() < 100; at += piece)
            result.push_back({of.data() + at, std::min(piece, of.size() - at)});
        return result;
    };
    for (int idle = 0; read < bytes;) {
        const auto before = written + read;
        if (written < bytes) {
            auto moved = from.write(places(sent, written, piece_from));
            REQUIRE_MESSAGE(moved, describe(moved.error()));
            written += moved->bytes;
        } else {
            REQUIRE(from.flush());
        }
        ends.carry();
        auto moved = to.read(places(got, read, piece_to));
        REQUIRE_MESSAGE(moved, describe(moved.error()));
        CHECK_FALSE(moved->ended);
        read += moved->bytes;
        idle = written + read == before ? idle + 1 : 0;
        if (idle > 0)
            ends.wait();
        REQUIRE(idle < 100);
    }
    CHECK(got == sent);
}

} // namespace kvferry::testing
