// SPDX-License-Identifier: Apache-2.0
// The reading end of a connection that a peer has made: what it says first, then its ring.
#pragma once

#include "transport/fabric/wire.hpp"
#include "transport/loop/forked_child.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/same_host/unix_socket.hpp"
#include "transport/shm/byte_ring.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace kvferry {

class shm_visitor {
public:
    /// `secret`: what the peer must show. `message_bytes_max`: longest message that is taken.
    shm_visitor(io_loop&, unix_socket, std::uint64_t secret, std::size_t message_bytes_max);

    shm_visitor(const shm_visitor&) = delete;
    shm_visitor& operator=(const shm_visitor&) = delete;

    /// Call once. foreign_peer: another user's process. Otherwise an error is the system's.
    caf::error start();

    /// Hands on what the peer has written, up to a turn's bytes. True: there was something.
    bool read(wire_user&);

    /// Tells the peer why, and ends it.
    void refuse(const std::string& why);

    bool has_ring() const { return ring_.has_value(); }
    /// Nothing more will come.
    bool is_over() const { return over_; }

    /// Before the loop sleeps. False: read() has something to do.
    bool sleep();
    void awake();

private:
    void on_socket();
    void on_hello();

    io_loop& loop_;
    std::optional<unix_socket> socket_;
    /// A forked child must not keep the socket open.
    std::optional<in_forked_child> in_child_;
    watch_handle watch_;
    std::uint64_t secret_;
    std::int64_t pid_ = 0;
    std::optional<ring_reader> ring_;
    message_assembly assembly_;
    /// Once the peer has closed its socket: how much more is read of what it left.
    std::optional<std::uint64_t> rest_bytes_;
    bool over_ = false;
};

} // namespace kvferry
