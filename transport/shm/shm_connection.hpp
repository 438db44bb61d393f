// SPDX-License-Identifier: Apache-2.0
// The writing end of a connection: its ring, what waits for room in it, and the socket by which the
// two sides wake each other and see each other's end.
#pragma once

#include "messages/values/ids.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/loop/forked_child.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/same_host/unix_socket.hpp"
#include "transport/shm/byte_ring.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

class shm_connection final : public wire_connection {
public:
    /// Of one wire, which outlives them.
    struct siblings {
        std::vector<wire_event> events;
        std::map<endpoint_id, shm_connection*> all;
    };

    shm_connection(io_loop&, siblings&, endpoint_id, incarnation peer, unix_socket, ring_memory);
    ~shm_connection() override;

    shm_connection(const shm_connection&) = delete;
    shm_connection& operator=(const shm_connection&) = delete;

    /// Call once. An error is the loop's.
    caf::error start();

    void send(fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag) override;
    bool send_from(fabric_message, byte_view head, byte_view payload, std::uint64_t tag) override;
    void flush(std::uint64_t tag) override;
    void close(bool force) override;
    std::size_t waiting() const override { return queue_.size(); }
    wire_room room() override;

    // -- for its wire -------------------------------------------------------------------------

    /// Goes on with what the reader has made room for. True: something has changed.
    bool advance();
    /// Before the loop sleeps. False: advance() has something to do.
    bool sleep();

private:
    struct queued {
        /// None: a flush.
        std::optional<fabric_message> what;
        std::uint64_t tag = 0;
        byte_buffer head = {};
        byte_buffer kept = {};
        /// What is left of the payload, in `kept` or in the caller's memory.
        byte_view payload = {};
    };
    struct flush_mark {
        std::uint64_t position = 0;
        std::uint64_t tag = 0;
    };

    bool write_now(fabric_message, byte_view head, byte_view payload);
    bool write_front();
    void write(fabric_message, byte_view head, byte_view bytes, bool more);
    bool is_waiting() const { return !queue_.empty() || !flushes_.empty() || room_wanted_; }
    void on_socket();
    void fail(const std::string& reason);
    void end();

    io_loop& loop_;
    siblings& siblings_;
    endpoint_id id_;
    incarnation peer_;
    ring_writer ring_;
    std::optional<unix_socket> socket_;
    /// A forked child must not keep the socket open.
    std::optional<in_forked_child> in_child_;
    watch_handle watch_;
    std::deque<queued> queue_;
    std::deque<flush_mark> flushes_;
    /// The fabric was told that there is no room for pieces.
    bool room_wanted_ = false;
    /// Ends when nothing waits any more.
    bool closing_ = false;
    bool ended_ = false;
    /// It has ended, and its last event is still to come.
    bool closed_untold_ = false;
    /// Why the reader closes, if it has said so.
    std::string reason_;
};

} // namespace kvferry
