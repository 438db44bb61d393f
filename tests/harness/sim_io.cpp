// SPDX-License-Identifier: Apache-2.0
// Endpoints, frames and puts of a simulated rank.
#include "tests/harness/sim_io.hpp"

#include "messages/local/fabric.hpp"
#include "messages/trace/handle.hpp"
#include "transport/fabric/peer_is_gone.hpp"
#include "transport/fabric/put_check.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <cstring>

namespace kvferry::harness {

namespace {

constexpr std::string_view address_label = "simulated address";

} // namespace

byte_buffer sim_address(incarnation process) {
    return seal_value(address_label, process.value);
}

sim_io_state::sim_io_state(sim_fabric_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), random_(with_.seed) {
    with_.bell->attach(sim_fabric_actor{self_});
    with_.network->attach(with_.self, this, with_.bell);
}

sim_fabric_actor::behavior_type sim_io_state::make_behavior() {
    return {
        handle(this, &sim_io_state::on_open_endpoint),
        handle(this, &sim_io_state::on_peer_memory_mapped),
        handle(this, &sim_io_state::on_peer_regions_offered),
        handle(this, &sim_io_state::on_send_frame),
        handle(this, &sim_io_state::on_start_put),
        handle(this, &sim_io_state::on_cancel_transfer),
        handle(this, &sim_io_state::on_close_endpoint),
        handle(this, &sim_io_state::on_register_region),
        handle(this, &sim_io_state::on_unregister_region),
        handle(this, &sim_io_state::on_describe_fabric),
        handle(this, &sim_io_state::on_drain_fabric),
        handle(this, &sim_io_state::on_allow_writes),
        handle(this, &sim_io_state::on_forbid_writes),
        handle(this, &sim_io_state::on_forbid_all),
        handle(this, &sim_io_state::on_stop_io),
        handle(this, &sim_io_state::on_tick),
    };
}

void sim_io_state::on_tick(const deadline_tick&) {
    with_.bell->answer();
}

// -- endpoints and frames -----------------------------------------------------------------------

caf::result<endpoint_opened> sim_io_state::on_open_endpoint(const open_endpoint& message) {
    if (stopping_)
        return make_error(errc::stopped, "the fabric of this rank is stopping");
    if (inbound_.is_fenced(message.peer))
        return peer_is_gone(message.peer);
    auto peer = unseal_value<std::uint64_t>(address_label, message.fabric_address);
    if (!peer)
        return make_error(errc::dial_failed,
                          "incarnation " + to_string(message.peer) + ": " + text_of(peer.error()));
    const endpoint_id id{++last_endpoint_};
    auto& fresh = endpoints_[id];
    fresh.peer = {*peer};
    fresh.owner = message.owner;
    learn_regions(fresh, message.regions);
    fresh.connection = with_.network->connect(with_.self, fresh.peer);
    return endpoint_opened{id};
}

void sim_io_state::on_peer_regions_offered(const peer_regions_offered& message) {
    if (auto to = endpoints_.find(message.endpoint);
        to != endpoints_.end() && to->second.regions.empty())
        learn_regions(to->second, message.regions);
}

void sim_io_state::learn_regions(endpoint& to, const std::vector<memory_region>& regions) {
    to.regions = regions;
    for (const auto& region : regions) {
        region_key key;
        if (auto inside = unseal(ucx_key_label, region.access_key);
            inside && inside->size() == sizeof key.head) {
            std::memcpy(static_cast<void*>(&key.head), inside->data(), sizeof key.head);
            key.usable = true;
        }
        to.keys.push_back(key);
    }
}

void sim_io_state::on_send_frame(send_frame& message) {
    auto to = endpoints_.find(message.endpoint);
    if (to == endpoints_.end() || to->second.closing)
        return;
    wire_item item;
    item.from = with_.self;
    item.bytes = std::move(message.frame);
    with_.network->send(to->second.peer, std::move(item), to->second.connection);
}

void sim_io_state::arrived(wire_item item) {
    switch (item.what) {
    case wire_item::kind::frame: {
        auto prefix = peek(item.bytes);
        if (!prefix)
            return;
        for (auto& [id, from] : endpoints_)
            if (from.peer == prefix->sender && !from.closing)
                return tell(self_, from.owner, frame_arrived{std::move(item.bytes)});
        tell(self_, with_.default_sink, frame_arrived{std::move(item.bytes)});
        return;
    }
    case wire_item::kind::write:
        inbound_.place(item.piece, item.bytes.data(), item.bytes.size());
        break;
    case wire_item::kind::write_end:
        inbound_.end(item.end, std::move(item.bytes));
        break;
    case wire_item::kind::written: {
        auto found = puts_.find(item.written.put);
        if (found == puts_.end())
            return;
        auto failure = found->second.failure;
        if (item.written.how != written_as::visible && !failure)
            failure = make_error(errc::transfer_failed, "the target refused a piece");
        finish_put(found->first, failure ? agent_result::failed : agent_result::success, failure);
        return;
    }
    }
    for (auto& done : inbound_.take_finished()) {
        wire_item back;
        back.what = wire_item::kind::written;
        back.from = with_.self;
        back.written = {with_.self.value, done.put,
                        done.refused ? written_as::refused : written_as::visible};
        with_.network->send(done.writer, std::move(back));
    }
}

bool sim_io_state::has_endpoint_to(incarnation peer) const {
    for (const auto& [id, to] : endpoints_)
        if (to.peer == peer)
            return true;
    return false;
}

void sim_io_state::connection_lost(incarnation peer, std::uint64_t last) {
    std::vector<endpoint_id> lost;
    for (const auto& [id, to] : endpoints_)
        if (to.peer == peer && to.connection <= last)
            lost.push_back(id);
    for (auto id : lost)
        fail_endpoint(id, make_error(errc::link_lost,
                                     "connection to incarnation " + to_string(peer) + " reset"));
}

void sim_io_state::fail_endpoint(endpoint_id id, caf::error reason) {
    auto found = endpoints_.find(id);
    if (found == endpoints_.end())
        return;
    for (auto number : std::set{found->second.puts}) {
        auto posted = puts_.at(number).pieces > 0; // bytes that were posted may still arrive
        finish_put(number, posted ? agent_result::in_doubt : agent_result::failed,
                   make_error(posted ? errc::transfer_in_doubt : errc::link_lost, text_of(reason)));
    }
    found = endpoints_.find(id);
    if (found == endpoints_.end())
        return;
    auto failed = std::move(found->second);
    endpoints_.erase(found);
    tell(self_, failed.owner, endpoint_failed{id, failed.peer, std::move(reason)});
    for (auto& waiting : failed.closed)
        waiting.deliver();
    finish_stop();
}

caf::result<void> sim_io_state::on_close_endpoint(const close_endpoint& message) {
    auto found = endpoints_.find(message.endpoint);
    if (found == endpoints_.end())
        return {};
    auto closed = self_->make_response_promise<answer>();
    found->second.closed.push_back(closed);
    if (message.force) {
        fail_endpoint(message.endpoint, make_error(errc::link_lost, "closed by force"));
    } else {
        found->second.closing = true;
        finish_close(message.endpoint);
    }
    return closed;
}

/// Closes in order: puts end, the peer takes what was sent, then the endpoint closes. The peer is
/// not told.
void sim_io_state::finish_close(endpoint_id id) {
    auto found = endpoints_.find(id);
    if (found == endpoints_.end() || !found->second.closing || !found->second.puts.empty())
        return;
    with_.network->carry(with_.self, found->second.peer, [this, bell = with_.bell, id] {
        bell->push([this, id] {
            auto closing = endpoints_.extract(id);
            if (!closing)
                return;
            for (auto& waiting : closing.mapped().closed)
                waiting.deliver();
            finish_stop();
        });
    });
}

// -- puts ---------------------------------------------------------------------------------------

caf::error sim_io_state::bind_target(const endpoint& to, const copy_job& job) const {
    return check_put(job, [&](std::uint32_t number) -> caf::expected<target_region> {
        if (number >= to.regions.size() || !to.keys[number].usable)
            return make_error(errc::plan_invalid, "no key for region " + std::to_string(number));
        return target_region{to.regions[number].base_address, to.regions[number].bytes};
    });
}

void sim_io_state::on_start_put(start_put& message) {
    const auto now = self_->clock().now();
    auto refuse = [&](caf::error reason) {
        tell(self_, message.reply_to,
             transfer_done{message.id, agent_result::failed, 0, std::move(reason), now, now});
    };
    auto over = endpoints_.find(message.endpoint);
    if (over == endpoints_.end() || over->second.closing)
        return refuse(make_error(errc::link_lost, "a put on a closed endpoint"));
    if (auto error = bind_target(over->second, message.job))
        return refuse(std::move(error));
    const auto number = ++last_put_;
    puts_.emplace(number, put{message.id,
                              message.endpoint,
                              std::move(message.job),
                              std::move(message.reply_to),
                              {},
                              0,
                              false,
                              {},
                              now,
                              message.attempt});
    over->second.puts.insert(number);
    post_later(number);
}

/// Reads the source piece by piece, at times drawn from the seed.
void sim_io_state::post_later(std::uint64_t number) {
    auto wait = random_.between(std::chrono::microseconds{0}, std::chrono::microseconds{40});
    self_->run_delayed(wait, [this, number] { post_piece(number); });
}

void sim_io_state::post_piece(std::uint64_t number) {
    auto found = puts_.find(number);
    if (found == puts_.end() || found->second.all_posted)
        return;
    auto& x = found->second;
    auto piece = x.cursor.next(x.job, random_.between(1, with_.piece_bytes_max));
    if (!piece) {
        post_end(number, x);
        return;
    }
    ++x.pieces;
    const auto& to = endpoints_.at(x.over);
    const auto& key = to.keys[piece->target_region].head;
    wire_item item;
    item.what = wire_item::kind::write;
    item.from = with_.self;
    item.piece = {with_.self.value,      number,         key.region, key.secret,
                  piece->target_address, x.attempt.value};
    item.bytes.resize(piece->bytes);
    if (with_.on_read)
        with_.on_read(piece->source_address);
    std::memcpy(item.bytes.data(), reinterpret_cast<const void*>(piece->source_address),
                piece->bytes);
    with_.network->send(to.peer, std::move(item), to.connection);
    post_later(number);
}

void sim_io_state::post_end(std::uint64_t number, put& x) {
    x.all_posted = true;
    if (x.pieces == 0) {
        finish_put(number, x.failure ? agent_result::failed : agent_result::success, x.failure);
        return;
    }
    wire_item item;
    item.what = wire_item::kind::write_end;
    item.from = with_.self;
    item.end = {with_.self.value, number, x.pieces};
    item.bytes = sim_address(with_.self);
    const auto& to = endpoints_.at(x.over);
    with_.network->send(to.peer, std::move(item), to.connection);
}

void sim_io_state::on_cancel_transfer(const cancel_transfer& message) {
    for (auto& [number, x] : puts_)
        if (x.id == message.id && !x.all_posted) {
            x.failure =
                make_error(errc::cancelled, "transfer " + to_string(x.id) + " was cancelled");
            post_end(number, x);
            return;
        }
}

void sim_io_state::finish_put(std::uint64_t number, agent_result result, caf::error error) {
    auto done = std::move(puts_.extract(number).mapped());
    tell(self_, done.reply_to,
         transfer_done{done.id, result, done.cursor.bytes(), std::move(error), done.began,
                       self_->clock().now()});
    if (auto over = endpoints_.find(done.over); over != endpoints_.end()) {
        over->second.puts.erase(number);
        finish_close(done.over);
    }
}

// -- the rest -----------------------------------------------------------------------------------

caf::result<region_registered> sim_io_state::on_register_region(const register_region& message) {
    if (with_.failing_registrations && *with_.failing_registrations > 0) {
        --*with_.failing_registrations;
        return make_error(errc::registration_failed, "the simulation lets this registration fail");
    }
    const region_id id{++last_region_};
    access_key_head head{id.value, random_.next()};
    inbound_.allow(id, message.base, message.bytes, head.secret, {}, message.by_attempt);
    return region_registered{id, seal(ucx_key_label, &head, sizeof head)};
}

caf::result<void> sim_io_state::on_unregister_region(const unregister_region& message) {
    inbound_.forbid(message.region);
    return {};
}

caf::result<fabric_description> sim_io_state::on_describe_fabric(const describe_fabric&) {
    return fabric_description{sim_address(with_.self), "simulated", true};
}

caf::result<void> sim_io_state::on_drain_fabric(const drain_fabric& message) {
    inbound_.fence(message.peer);
    return {};
}

void sim_io_state::on_allow_writes(const allow_writes& message) {
    inbound_.allow(message.attempt);
}

caf::result<void> sim_io_state::on_forbid_writes(const forbid_writes& message) {
    const auto longest = with_.network->temper().shut_out_max;
    if (longest.count() == 0) {
        inbound_.forbid(message.attempt);
        return {};
    }
    auto shut_out = self_->make_response_promise<answer>();
    self_->run_delayed(random_.between(std::chrono::microseconds{0}, longest),
                       [this, over = message.attempt, shut_out]() mutable {
                           inbound_.forbid(over);
                           shut_out.deliver();
                       });
    return shut_out;
}

caf::result<void> sim_io_state::on_forbid_all(const forbid_all_writes&) {
    inbound_.forbid_all();
    return {};
}

caf::result<void> sim_io_state::on_stop_io(const stop_io&) {
    auto stopped = self_->make_response_promise<answer>();
    stopped_.push_back(stopped);
    stopping_ = true;
    std::vector<endpoint_id> open;
    for (auto& [id, x] : endpoints_)
        open.push_back(id);
    for (auto id : open)
        fail_endpoint(id, make_error(errc::stopped, "the fabric of this rank is stopping"));
    finish_stop();
    return stopped;
}

void sim_io_state::finish_stop() {
    if (!stopping_ || !endpoints_.empty())
        return;
    for (auto& waiting : std::exchange(stopped_, {}))
        waiting.deliver();
    self_->quit();
}

} // namespace kvferry::harness
