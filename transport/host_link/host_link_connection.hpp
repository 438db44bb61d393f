// SPDX-License-Identifier: Apache-2.0
// One same-host connection on a loop: packets in, packets out, the end; decides nothing.
#pragma once

#include "transport/host_link/host_link_hello.hpp"
#include "transport/host_link/unix_socket.hpp"
#include "transport/loop/io_loop.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace kvferry {

/// Used on the loop's thread only. Its owner may drop it from inside its own callbacks.
class host_link_connection : public std::enable_shared_from_this<host_link_connection> {
public:
    /// A packet that the codec accepts, with its descriptors.
    using packet_callback =
        std::function<void(host_link_connection&, host_link_packet, std::vector<unique_fd>)>;
    /// The connection is of no use any more; called once, and nothing after it.
    using end_callback = std::function<void(host_link_connection&, caf::error)>;

    struct callbacks {
        packet_callback packet;
        end_callback end;
    };

    host_link_connection(io_loop& loop, unix_socket socket, bool dialled, std::size_t regions_max)
        : hello(regions_max), loop_(loop), socket_(std::move(socket)), dialled_(dialled) {}

    /// Calls back from now on.
    caf::error start(callbacks);

    /// Sends after what was sent before; the descriptors must stay open until it has left.
    caf::error send(byte_buffer packet, std::vector<int> fds);

    /// No callback comes after this one.
    void close() noexcept;

    const unix_socket& socket() const noexcept { return socket_; }
    /// This side has connected; false: it has accepted.
    bool dialled() const noexcept { return dialled_; }

    /// What the peer has said so far, and its pidfd: the owner's to use.
    hello_assembly hello;
    unique_fd process;

private:
    struct outgoing {
        byte_buffer packet;
        std::vector<int> fds;
    };

    void on_events(std::uint32_t epoll_events);
    void receive();
    caf::error flush();
    caf::error watch();

    io_loop& loop_;
    unix_socket socket_;
    bool dialled_;
    bool closed_ = false;
    callbacks callbacks_;
    std::deque<outgoing> waiting_;
    watch_handle watch_;
};

} // namespace kvferry
