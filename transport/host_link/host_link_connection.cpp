// SPDX-License-Identifier: Apache-2.0
// Watches the socket of a connection; watches for room to send only when there was none.
#include "transport/host_link/host_link_connection.hpp"

#include <exception>
#include <sys/epoll.h>
#include <utility>

namespace kvferry {

caf::error host_link_connection::start(callbacks to) {
    callbacks_ = std::move(to);
    return watch();
}

caf::error host_link_connection::watch() {
    const std::uint32_t events = waiting_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT;
    watch_.reset();
    auto made = loop_.watch(socket_.fd(), events, [weak = weak_from_this()](std::uint32_t pending) {
        if (auto self = weak.lock())
            self->on_events(pending);
    });
    if (!made)
        return std::move(made.error());
    watch_ = std::move(*made);
    return {};
}

caf::error host_link_connection::send(byte_buffer packet, std::vector<int> fds) {
    waiting_.push_back({std::move(packet), std::move(fds)});
    return waiting_.size() == 1 ? flush() : caf::error{};
}

caf::error host_link_connection::flush() {
    const auto before = waiting_.size();
    while (!waiting_.empty()) {
        auto sent = socket_.send(waiting_.front().packet, waiting_.front().fds);
        if (!sent) {
            if (code_of(sent.error()) != errc::link_lost)
                return std::move(sent.error());
            waiting_.clear(); // receive() reports the end, after the packets that came before it
            break;
        }
        if (!*sent)
            break;
        waiting_.pop_front();
    }
    const bool was_full = before > 1 || (before == 1 && !waiting_.empty());
    return was_full && !closed_ ? watch() : caf::error{};
}

void host_link_connection::on_events(std::uint32_t epoll_events) {
    auto alive = shared_from_this();
    try {
        if ((epoll_events & EPOLLOUT) != 0 && !waiting_.empty())
            if (auto error = flush())
                return callbacks_.end(*this, std::move(error));
        if ((epoll_events & ~std::uint32_t{EPOLLOUT}) != 0)
            receive();
    } catch (const std::exception& thrown) {
        if (!closed_)
            callbacks_.end(*this,
                           make_error(errc::handler_failed,
                                      std::string{"same-host connection: "} + thrown.what()));
    }
}

void host_link_connection::receive() {
    // One packet per call: the watch calls again while there are more, and others get their turn.
    auto received = socket_.receive();
    switch (received.what) {
    case received_packet::kind::nothing:
        return;
    case received_packet::kind::end:
        return callbacks_.end(*this,
                              make_error(errc::link_lost, "the peer has closed the connection"));
    case received_packet::kind::broken:
        return callbacks_.end(*this, make_error(errc::malformed_message,
                                                "a packet did not arrive whole: too long, or no "
                                                "descriptors left in this process"));
    case received_packet::kind::packet:
        break;
    }
    auto packet = decode_host_link_packet(received.bytes, received.fds.size(), newest_);
    if (!packet)
        return callbacks_.end(*this, std::move(packet.error()));
    callbacks_.packet(*this, std::move(*packet), std::move(received.fds));
}

void host_link_connection::close() noexcept {
    closed_ = true;
    watch_.reset();
    waiting_.clear();
}

} // namespace kvferry
