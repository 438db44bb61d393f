// SPDX-License-Identifier: Apache-2.0
// Links of the fabric: how they are opened, used for frames, closed and lost.
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/fabric/fabric_io.hpp"
#include "transport/fabric/peer_is_gone.hpp"

#include <utility>

namespace kvferry {

caf::expected<fabric_state::link*> fabric_state::make_link(incarnation peer, byte_view address,
                                                           frame_sink_actor owner) {
    const endpoint_id id{last_endpoint_ + 1};
    auto connection = wire_->connect(peer, address, id);
    if (!connection)
        return std::move(connection.error());
    ++last_endpoint_;
    puts_.open(id, peer);
    return &links_.add(id, link{.id = id,
                                .peer = peer,
                                .owner = std::move(owner),
                                .connection = std::move(*connection)});
}

caf::result<endpoint_opened> fabric_state::on_open_endpoint(const open_endpoint& message) {
    if (now_ != life::running)
        return make_error(errc::stopped, "the fabric of this rank is stopping");
    if (inbound_.is_fenced(message.peer)) // a late message of it must stay fenced
        return peer_is_gone(message.peer);
    if (auto problem = wire_->check_room())
        return problem;
    auto made = make_link(message.peer, message.fabric_address, message.owner);
    if (!made)
        return add_context(made.error(), "incarnation {}", message.peer);
    auto& x = **made;
    inbound_.joined(x.peer);
    learn_regions(x, message.regions);
    return endpoint_opened{x.id, x.connection->by_rma()};
}

void fabric_state::learn_regions(link& x, const std::vector<memory_region>& regions) {
    peer_regions::learn_rma_key learn;
    if (x.connection->by_rma())
        learn = [&x](std::uint32_t region, byte_view key) {
            return x.connection->learn_key(region, key);
        };
    x.regions = peer_regions{regions, wire_->key_label(), learn};
}

void fabric_state::on_peer_memory_mapped(const peer_memory_mapped& message) {
    if (auto* x = links_.find_open(message.endpoint))
        x->lent = lend(message.regions);
}

void fabric_state::on_peer_regions_offered(const peer_regions_offered& message) {
    if (auto* x = links_.find_open(message.endpoint); x && x->regions.empty())
        learn_regions(*x, message.regions);
}

void fabric_state::on_send_frame(send_frame& message) {
    auto* x = links_.find_open(message.endpoint);
    if (!x)
        return;
    if (message.frame.size() > with_.bounds.message_bytes_max)
        return fail_link(*x, make_error(errc::limit_exceeded,
                                        "a frame of {} bytes is longer than message_bytes_max",
                                        message.frame.size()));
    if (x->connection->waiting() > with_.bounds.pending_per_link_max)
        return fail_link(
            *x, make_error(errc::limit_exceeded,
                           "incarnation {} takes no frames: pending_per_link_max of them wait",
                           x->peer));
    x->connection->send(fabric_message::frame, {}, std::move(message.frame), 0);
}

// -- the end of a link --------------------------------------------------------------------------

caf::result<void> fabric_state::on_close_endpoint(const close_endpoint& message) {
    auto* x = links_.find(message.endpoint);
    if (!x)
        return {};
    auto closed = self_->make_response_promise<answer>();
    x->closed.push_back(closed);
    if (message.force) {
        fail_link(*x,
                  make_error(errc::link_lost, "endpoint {} was closed by force", message.endpoint));
    } else if (x->is_open()) {
        close_in_order(*x);
        self_->run_delayed(with_.bounds.stop_deadline, [this, id = message.endpoint] {
            if (auto* late = links_.find(id))
                fail_link(*late, make_error(errc::deadline_exceeded,
                                            "the peer did not take the rest in time"));
        });
    }
    return closed;
}

void fabric_state::close_in_order(link& x) {
    if (!x.is_open())
        return;
    x.now = link::phase::ending;
    advance_close(x);
}

void fabric_state::advance_close(link& x) {
    if (x.now != link::phase::ending || puts_.has_puts(x.id))
        return;
    x.now = link::phase::flushing;
    x.connection->flush(0);
}

/// Ends everything under way, each with its own answer; then the owner hears of the failure.
void fabric_state::fail_link(link& x, caf::error reason) {
    if (x.now == link::phase::failed)
        return;
    x.connection->close(true);
    lose_link(x, std::move(reason));
    carry_out_puts();
}

/// The wire itself has reported the failure, and ends the connection.
void fabric_state::lose_link(link& x, caf::error reason) {
    if (std::exchange(x.now, link::phase::failed) == link::phase::failed)
        return;
    x.failure = reason;
    leave(x.peer);
    puts_.fail(x.id, std::move(reason));
}

/// A writer keeps what it has begun here while one of its links is open.
void fabric_state::leave(incarnation peer) {
    if (!links_.find_open(peer))
        inbound_.lost(peer);
}

void fabric_state::on_break(const endpoint_failed& message) {
    if (auto* x = links_.find(message.endpoint))
        fail_link(*x, message.reason);
}

void fabric_state::finish_link(endpoint_id id) {
    if (!links_.find(id))
        return;
    auto x = links_.take(id);
    puts_.close(id);
    x.connection.reset(); // finish_stop() may destroy the wire
    leave(x.peer);
    if (x.failure)
        tell(self_, x.owner, endpoint_failed{id, x.peer, std::move(x.failure)});
    for (auto& waiting : x.closed)
        waiting.deliver();
    finish_waits();
    finish_stop();
}

} // namespace kvferry
