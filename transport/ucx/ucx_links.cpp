// SPDX-License-Identifier: Apache-2.0
// Links of the UCX fabric: how they are opened, used for frames, closed and lost.
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "transport/fabric/peer_is_gone.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/ucx/ucx_error.hpp"
#include "transport/ucx/ucx_io.hpp"

#include <algorithm>
#include <chrono>

namespace kvferry {

namespace {

/// How long UCX may take to end the operations of a broken endpoint.
constexpr std::chrono::seconds lost_operations_grace{1};

/// How long after open_endpoint UCX may still open connections for it.
constexpr std::chrono::milliseconds connections_settle{50};

/// UCX tells nobody that it has closed a port.
constexpr std::chrono::seconds port_check_interval{1};

caf::error stopping() {
    return make_error(errc::stopped, "the fabric of this rank is stopping");
}

} // namespace

ucx_io_state::link* ucx_io_state::find_open(endpoint_id id) {
    auto found = links_.find(id);
    return found == links_.end() || found->second.ending ? nullptr : &found->second;
}

ucx_io_state::link* ucx_io_state::find_open(incarnation peer) {
    link* result = nullptr;
    if (auto known = of_peer_.find(peer); known != of_peer_.end())
        for (auto id : known->second)
            if (auto& x = links_.at(id); !x.ending && (!result || x.owner))
                result = &x; // prefer a link with an owner
    return result;
}

caf::expected<ucx_io_state::link*> ucx_io_state::make_link(incarnation peer, byte_view address,
                                                           frame_sink_actor owner) {
    const endpoint_id id{last_endpoint_ + 1};
    auto endpoint = worker_->connect(address, id);
    if (!endpoint)
        return std::move(endpoint.error());
    auto& result = links_[id];
    result.id = id;
    result.peer = peer;
    result.owner = std::move(owner);
    result.endpoint = std::move(*endpoint);
    of_peer_[peer].insert(id);
    ++last_endpoint_;
    guard_connections();
    return &result;
}

caf::result<endpoint_opened> ucx_io_state::on_open_endpoint(const open_endpoint& message) {
    if (stopping_)
        return stopping();
    if (inbound_.is_fenced(message.peer)) // a late message of it must stay fenced
        return peer_is_gone(message.peer);
    // Half of the reserve is for refusals, which need an endpoint to travel on.
    if (auto problem = check_descriptors(descriptors_reserve / 2))
        return problem;
    auto made = make_link(message.peer, message.fabric_address, message.owner);
    if (!made)
        return add_context(made.error(), "incarnation " + to_string(message.peer));
    inbound_.joined(message.peer);
    prepare_keys(**made, message.regions);
    return endpoint_opened{(*made)->id, (*made)->by_rma};
}

/// UCX opens the connection at once, and may open more while the two sides agree on their lanes.
void ucx_io_state::guard_connections() {
    if (std::exchange(guarding_, true))
        return;
    worker_->guard_connections();
    self_->run_delayed(connections_settle, [this] {
        guarding_ = false;
        worker_->guard_connections();
    });
}

void ucx_io_state::watch_ports() {
    if (stopping_ || !worker_->has_ports())
        return;
    if (worker_->closed_ports() != 0)
        logger().error(
            "ucx_io: UCX has closed the port at which peers reach this rank, because the "
            "process had no descriptor left. Links that are up go on, others cannot come "
            "up: start the rank again, with a higher limit (ulimit -n, LimitNOFILE)");
    self_->run_delayed(port_check_interval, [this] { watch_ports(); });
}

void ucx_io_state::on_peer_memory_mapped(const peer_memory_mapped& message) {
    if (auto* x = find_open(message.endpoint))
        x->lent = lend(message.regions);
}

void ucx_io_state::on_peer_regions_offered(const peer_regions_offered& message) {
    if (auto* x = find_open(message.endpoint); x && x->regions.empty())
        prepare_keys(*x, message.regions);
}

void ucx_io_state::on_send_frame(send_frame& message) {
    auto* x = find_open(message.endpoint);
    if (!x)
        return;
    if (message.frame.size() > with_.bounds.message_bytes_max)
        return fail_link(*x, make_error(errc::limit_exceeded,
                                        "a frame of " + std::to_string(message.frame.size())
                                            + " bytes is longer than message_bytes_max"));
    if (x->endpoint->operations() > with_.bounds.pending_per_link_max)
        return fail_link(*x,
                         make_error(errc::limit_exceeded,
                                    "incarnation " + to_string(x->peer)
                                        + " takes no frames: pending_per_link_max of them wait"));
    x->endpoint->send(ucx_frame, {}, std::move(message.frame), 0);
}

// -- the end of a link --------------------------------------------------------------------------

caf::result<void> ucx_io_state::on_close_endpoint(const close_endpoint& message) {
    auto found = links_.find(message.endpoint);
    if (found == links_.end())
        return {};
    auto& x = found->second;
    auto closed = self_->make_response_promise<answer>();
    x.closed.push_back(closed);
    if (message.force) {
        fail_link(x, make_error(errc::link_lost, "endpoint " + to_string(message.endpoint)
                                                     + " was closed by force"));
    } else if (!std::exchange(x.ending, true)) {
        advance_close(x);
        self_->run_delayed(with_.bounds.stop_deadline, [this, id = message.endpoint] {
            if (auto late = links_.find(id); late != links_.end())
                fail_link(late->second, make_error(errc::deadline_exceeded,
                                                   "the peer did not take the rest in time"));
        });
    }
    return closed;
}

/// An orderly close: puts end, then everything is flushed, then the endpoint is closed.
void ucx_io_state::advance_close(link& x) {
    if (!x.ending || x.failure || !x.puts.empty() || std::exchange(x.flushing, true))
        return;
    x.endpoint->flush(0);
}

/// Ends everything under way, each with its own answer; then the owner hears of the failure.
void ucx_io_state::fail_link(link& x, caf::error reason) {
    if (x.failure)
        return;
    x.failure = std::move(reason);
    x.ending = true;
    x.posting.clear();
    leave(x.peer);
    x.endpoint->close(true);
    for (auto number : std::set<std::uint64_t>{x.puts})
        advance_put(number);
}

/// UCX itself has reported the failure. It ends the endpoint's operations, and the endpoint is
/// closed after the last one: UCX 1.13 aborts the process when it ends an operation over TCP that a
/// forced close has already ended. A timer closes the endpoint even if UCX forgets an operation.
void ucx_io_state::lose_link(link& x, caf::error reason) {
    if (x.failure)
        return;
    x.failure = std::move(reason);
    x.ending = true;
    x.lost = true;
    x.posting.clear();
    leave(x.peer);
    self_->run_delayed(lost_operations_grace, [this, id = x.id] {
        if (auto late = links_.find(id); late != links_.end())
            late->second.endpoint->close(true);
    });
    for (auto number : std::set<std::uint64_t>{x.puts})
        advance_put(number);
}

/// A writer keeps what it has begun here while one of its links is open.
void ucx_io_state::leave(incarnation peer) {
    if (!find_open(peer))
        inbound_.lost(peer);
}

void ucx_io_state::close_when_quiet(link& x) {
    if (x.endpoint->reported_broken() && x.endpoint->operations() == 0)
        x.endpoint->close(true);
}

void ucx_io_state::finish_link_if_over(endpoint_id id) {
    auto found = links_.find(id);
    if (found == links_.end() || found->second.endpoint->state() != endpoint_state::closed
        || found->second.endpoint->operations() != 0 || !found->second.puts.empty())
        return;
    auto x = std::move(found->second);
    links_.erase(found);
    posting_.erase(id);
    const auto siblings = of_peer_.find(x.peer);
    siblings->second.erase(id);
    if (siblings->second.empty())
        of_peer_.erase(siblings);
    x.keys.clear(); // finish_stop() may destroy the worker
    leave(x.peer);
    if (x.failure)
        tell(self_, x.owner, endpoint_failed{id, x.peer, std::move(x.failure)});
    for (auto& waiting : x.closed)
        waiting.deliver();
    finish_drains();
    finish_stop();
}

// -- the end of the fabric ----------------------------------------------------------------------

caf::result<void> ucx_io_state::on_stop_io(const stop_io&) {
    auto stopped = self_->make_response_promise<answer>();
    stopped_.push_back(stopped);
    if (std::exchange(stopping_, true))
        return stopped;
    std::vector<std::uint64_t> running;
    for (const auto& [number, put] : puts_)
        running.push_back(number);
    for (auto number : running)
        give_up(number, stopping());
    for (auto& [id, x] : links_) {
        x.ending = true;
        advance_close(x);
    }
    // Two deadlines: first for the peers, then for UCX.
    self_->run_delayed(with_.bounds.stop_deadline, [this] { force_all(stopping()); });
    self_->run_delayed(2 * with_.bounds.stop_deadline, [this] {
        logger().error("ucx_io: {} links did not end in time and go down with the worker",
                       links_.size());
        release();
        end();
    });
    finish_stop();
    return stopped;
}

void ucx_io_state::force_all(const caf::error& reason) {
    for (auto& [id, x] : links_)
        fail_link(x, reason);
}

void ucx_io_state::finish_stop() {
    if (!stopping_ || releasing_ || !links_.empty() || stopped_.empty())
        return;
    release();
    end();
}

void ucx_io_state::end() {
    for (auto& waiting : std::exchange(stopped_, {}))
        waiting.deliver();
    self_->send_exit(self_, caf::exit_reason::user_shutdown);
}

/// Frees everything of UCX. After an orderly stop nothing is under way. When the actor was killed,
/// running operations are ended here, within a bounded time.
void ucx_io_state::release() {
    if (std::exchange(releasing_, true))
        return;
    force_all(make_error(errc::stopped, "the fabric of this rank was killed"));
    const auto until = clock::now() + std::chrono::milliseconds{200};
    while (!links_.empty() && clock::now() < until)
        worker_->progress();
    for (auto& [number, put] : std::exchange(puts_, {}))
        tell(self_, put.reply_to,
             transfer_done{put.id, agent_result::in_doubt, put.cursor.bytes(),
                           make_error(errc::transfer_in_doubt, "the fabric of this rank has ended"),
                           put.began, clock::now()});
    for (auto& [id, x] : links_)
        x.keys.clear(); // keys must go before their worker
    regions_.clear();
    worker_->destroy(); // only destroy(): the worker object may be our caller
    links_.clear();
    of_peer_.clear();
    posting_.clear();
}

} // namespace kvferry
