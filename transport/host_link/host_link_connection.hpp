// SPDX-License-Identifier: Apache-2.0
// One same-host connection on a loop: receives and sends packets and reports the end; decides
// nothing.
#pragma once

#include "messages/limits.hpp"
#include "transport/host_link/host_link_hello.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/same_host/unix_socket.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace kvferry {

/// Used on the loop's thread only. Its owner may drop it inside its callbacks.
class host_link_connection : public std::enable_shared_from_this<host_link_connection> {
public:
    /// Gets a decoded packet with its descriptors.
    using packet_callback =
        std::function<void(host_link_connection&, host_link_packet, std::vector<unique_fd>)>;
    /// Called once when the connection has become unusable; no callback follows.
    using end_callback = std::function<void(host_link_connection&, caf::error)>;

    struct callbacks {
        packet_callback packet;
        end_callback end;
    };

    host_link_connection(io_loop& loop, unix_socket socket, bool dialled, const limits& bounds)
        : hello(bounds.shared_regions_max), loop_(loop), socket_(std::move(socket)),
          dialled_(dialled), newest_(bounds.protocol) {}

    /// Starts the callbacks.
    caf::error start(callbacks);

    /// Sends after all earlier packets; the descriptors must stay open until the packet is sent.
    caf::error send(byte_buffer packet, std::vector<int> fds);

    /// Closes the connection; no callback follows.
    void close() noexcept;

    const unix_socket& socket() const noexcept { return socket_; }
    /// True: this side has connected; false: it has accepted.
    bool dialled() const noexcept { return dialled_; }

    /// What the peer has sent so far, and its pidfd; for the owner's use.
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
    std::uint16_t newest_;
    bool closed_ = false;
    callbacks callbacks_;
    std::deque<outgoing> waiting_;
    watch_handle watch_;
};

} // namespace kvferry
