// SPDX-License-Identifier: Apache-2.0
// Endpoints, frames and transfers of the fabric's twin, as their source sees them.
#include "transport/loopback/loopback_io.hpp"

#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/peer_is_gone.hpp"
#include "transport/fabric/put_check.hpp"
#include "transport/fabric/sealed_bytes.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>

namespace kvferry {

namespace {

constexpr std::string_view key_label = "loopback access key";

struct access_key {
    /// Id of the twin that owns the memory.
    std::uint64_t owner = 0;
    std::uint64_t region = 0;
};

caf::error not_open(endpoint_id endpoint, const char* what) {
    return make_error(errc::link_lost, std::string{what} + " on endpoint " + to_string(endpoint)
                                           + ", which is closed: open a new one");
}

caf::error stopping() {
    return make_error(errc::stopped, "the fabric of this rank is stopping");
}

} // namespace

loopback_io_state::loopback_io_state(loopback_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), staging_(with_.bounds.staging_piece_bytes_max),
      service_(
          self, staging_, [this](put_key put) { return lent_by(put); },
          [this] {
              serve_staging();
              go_on();
          }) {
    address_ = with_.network->attach(loopback_actor{self_});
}

loopback_io_state::~loopback_io_state() {
    with_.network->detach(address_);
}

loopback_actor::behavior_type loopback_io_state::make_behavior() {
    self_->set_down_handler([this](const caf::down_msg& down) { on_twin_down(down.source); });
    return {
        handle(this, &loopback_io_state::on_open_endpoint),
        handle(this, &loopback_io_state::on_peer_memory_mapped),
        handle(this, &loopback_io_state::on_peer_regions_offered),
        handle(this, &loopback_io_state::on_send_frame),
        handle(this, &loopback_io_state::on_start_put),
        handle(this, &loopback_io_state::on_cancel_transfer),
        handle(this, &loopback_io_state::on_close_endpoint),
        handle(this, &loopback_io_state::on_register_region),
        handle(this, &loopback_io_state::on_unregister_region),
        handle(this, &loopback_io_state::on_describe_fabric),
        handle(this, &loopback_io_state::on_drain_fabric),
        handle(this, &loopback_io_state::on_allow_writes),
        handle(this, &loopback_io_state::on_forbid_writes),
        handle(this, &loopback_io_state::on_forbid_all),
        handle(this, &loopback_io_state::on_stop_io),
        handle(this, &loopback_io_state::on_transfer_done),
        handle(this, &loopback_io_state::on_frame_arrived),
        handle(this, &loopback_io_state::on_start_copy),
        handle(this, &loopback_io_state::on_tick),
        handle(this, &loopback_io_state::on_break),
    };
}

void loopback_io_state::handler_failed(const caf::error& error) {
    logger().error("{}", describe(error));
}

// -- endpoints ------------------------------------------------------------------------------

caf::result<endpoint_opened> loopback_io_state::on_open_endpoint(const open_endpoint& message) {
    if (stopping_)
        return stopping();
    if (drained_.contains(message.peer))
        return peer_is_gone(message.peer);
    auto twin = with_.network->find(message.fabric_address);
    if (!twin)
        return make_error(errc::dial_failed,
                          "incarnation " + to_string(message.peer) + ": " + text_of(twin.error()));
    const endpoint_id id{++last_endpoint_};
    endpoints_.emplace(
        id, endpoint{message.peer, *twin, message.regions, message.owner, {}, {}, false, {}});
    of_peer_[message.peer].insert(id);
    if (*twin) {
        self_->monitor(*twin);
    } else { // as with UCX: the endpoint opens at once and fails later
        auto nobody = make_error(errc::link_lost, "nobody listens at this loopback address");
        tell(self_, loopback_actor{self_}, endpoint_failed{id, message.peer, std::move(nobody)});
    }
    return endpoint_opened{id};
}

void loopback_io_state::on_peer_memory_mapped(const peer_memory_mapped& message) {
    if (auto found = endpoints_.find(message.endpoint); found != endpoints_.end())
        found->second.lent = lend(message.regions);
}

void loopback_io_state::on_peer_regions_offered(const peer_regions_offered& message) {
    if (auto found = endpoints_.find(message.endpoint);
        found != endpoints_.end() && found->second.regions.empty())
        found->second.regions = message.regions;
}

void loopback_io_state::on_send_frame(send_frame& message) {
    auto found = endpoints_.find(message.endpoint);
    if (found == endpoints_.end() || found->second.closing)
        return;
    if (message.frame.size() > with_.bounds.message_bytes_max)
        return fail_endpoint(
            message.endpoint,
            make_error(errc::limit_exceeded, "a frame of " + std::to_string(message.frame.size())
                                                 + " bytes is longer than message_bytes_max"));
    tell(self_, found->second.twin, frame_arrived{std::move(message.frame)});
}

void loopback_io_state::on_frame_arrived(frame_arrived& message) {
    auto prefix = peek(message.frame);
    if (!prefix) {
        ++malformed_frames_;
        logger().warn("a frame is dropped: {}", describe(prefix.error()));
        return;
    }
    if (auto known = of_peer_.find(prefix->sender); known != of_peer_.end())
        for (auto id : known->second)
            if (const auto& from = endpoints_.at(id); !from.closing)
                return tell(self_, from.owner, std::move(message));
    tell(self_, with_.default_sink, std::move(message));
}

caf::result<void> loopback_io_state::on_close_endpoint(const close_endpoint& message) {
    auto found = endpoints_.find(message.endpoint);
    if (found == endpoints_.end())
        return {};
    if (message.force) {
        fail_endpoint(message.endpoint,
                      make_error(errc::link_lost, "endpoint " + to_string(message.endpoint)
                                                      + " was closed by force"));
        return {};
    }
    auto closed = self_->make_response_promise<answer>();
    found->second.closing = true;
    found->second.closed.push_back(closed);
    finish_close(message.endpoint);
    return closed;
}

void loopback_io_state::finish_close(endpoint_id id) {
    auto found = endpoints_.find(id);
    if (found == endpoints_.end() || !found->second.closing || !found->second.transfers.empty())
        return;
    auto closed = forget_endpoint(id);
    for (auto& waiting : closed.closed)
        waiting.deliver();
    finish_stop();
}

/// A monitor of a twin that lives on would stay with that twin.
loopback_io_state::endpoint loopback_io_state::forget_endpoint(endpoint_id id) {
    auto known = std::move(endpoints_.extract(id).mapped());
    const auto siblings = of_peer_.find(known.peer);
    siblings->second.erase(id);
    if (siblings->second.empty())
        of_peer_.erase(siblings);
    if (known.twin && std::none_of(endpoints_.begin(), endpoints_.end(), [&](const auto& other) {
            return other.second.twin == known.twin;
        }))
        self_->demonitor(known.twin.address());
    return known;
}

void loopback_io_state::fail_endpoint(endpoint_id id, caf::error reason) {
    if (!endpoints_.contains(id))
        return;
    auto failed = forget_endpoint(id);
    for (auto put : failed.transfers) // the other twin may still carry them out
        finish_transfer(put, agent_result::in_doubt, 0,
                        make_error(errc::transfer_in_doubt,
                                   "transfer " + to_string(put) + ": " + text_of(reason)));
    tell(self_, failed.owner, endpoint_failed{id, failed.peer, std::move(reason)});
    for (auto& waiting : failed.closed)
        waiting.deliver();
    finish_stop();
}

void loopback_io_state::on_break(const endpoint_failed& message) {
    fail_endpoint(message.endpoint, message.reason);
}

void loopback_io_state::on_twin_down(const caf::actor_addr& twin) {
    std::vector<endpoint_id> lost;
    for (const auto& [id, to] : endpoints_)
        if (to.twin == twin)
            lost.push_back(id);
    for (auto id : lost)
        fail_endpoint(id, make_error(errc::link_lost, "the fabric of incarnation "
                                                          + to_string(endpoints_.at(id).peer)
                                                          + " has ended"));
}

// -- transfers of this rank -----------------------------------------------------------------

/// Checks keys and bounds, and replaces region numbers by those of the regions' owner.
caf::error loopback_io_state::bind_target(const endpoint& to, copy_job& job) const {
    auto refuse = [](std::uint32_t region, const std::string& why) {
        return make_error(errc::transfer_failed,
                          "access key of region " + std::to_string(region) + ": " + why);
    };
    auto error = check_put(job, [&](std::uint32_t number) -> caf::expected<target_region> {
        if (number >= to.regions.size())
            return make_error(errc::plan_invalid,
                              "the peer has no region " + std::to_string(number));
        const auto& region = to.regions[number];
        auto key = unseal_value<access_key>(key_label, region.access_key);
        if (!key)
            return refuse(number, text_of(key.error()));
        if (!to.twin || key->owner != to.twin.id())
            return refuse(number, "it belongs to another fabric");
        return target_region{region.base_address, region.bytes};
    });
    if (error)
        return error;
    for (auto& pool : job.target_pools)
        if (pool.region < to.regions.size())
            if (auto key = unseal_value<access_key>(key_label, to.regions[pool.region].access_key))
                pool.region = static_cast<std::uint32_t>(key->region);
    return {};
}

void loopback_io_state::on_start_put(start_put& message) {
    auto refuse = [&](caf::error reason) {
        const auto now = self_->clock().now();
        tell(self_, message.reply_to,
             transfer_done{message.id, agent_result::failed, 0, std::move(reason), now, now});
    };
    auto found = endpoints_.find(message.endpoint);
    if (found == endpoints_.end() || found->second.closing)
        return refuse(not_open(message.endpoint, "a put"));
    if (transfers_.contains(message.id))
        return refuse(make_error(errc::duplicate,
                                 "transfer " + to_string(message.id) + " has been started before"));
    auto& to = found->second;
    if (auto error = bind_target(to, message.job))
        return refuse(std::move(error));
    record_io(self_, trace::instant::io_begin, direct_put, message.id.value,
              message.job.plan->bytes);
    to.transfers.insert(message.id);
    transfers_.emplace(message.id, transfer{message.endpoint, std::move(message.reply_to),
                                            self_->clock().now(), false});
    tell(self_, to.twin,
         start_copy{
             message.id, std::move(message.job), completion_actor{self_}, {}, message.attempt});
}

void loopback_io_state::on_transfer_done(const transfer_done& message) {
    if ((message.id.value & scatter_bits) == scatter_bits)
        on_scattered(message);
    else if (transfers_.contains(message.id)) // else it was answered when its endpoint failed
        finish_transfer(message.id, message.result, message.bytes, message.error);
}

void loopback_io_state::finish_transfer(transfer_id id, agent_result result, std::uint64_t bytes,
                                        caf::error error) {
    auto done = std::move(transfers_.at(id));
    transfers_.erase(id);
    record_io(self_, trace::instant::io_end, direct_put, id.value, bytes);
    tell(self_, done.reply_to,
         transfer_done{id, result, bytes, std::move(error), done.began, self_->clock().now()});
    if (auto found = endpoints_.find(done.over); found != endpoints_.end()) {
        found->second.transfers.erase(id);
        finish_close(done.over);
    }
}

void loopback_io_state::on_cancel_transfer(const cancel_transfer& message) {
    const auto from =
        self_->current_sender() ? self_->current_sender()->address() : caf::actor_addr{};
    for (auto& x : writes_) {
        if (x.from == from && x.id == message.id) { // another twin's put into this one
            stop_write(
                x, make_error(errc::cancelled, "transfer " + to_string(x.id) + " was cancelled"));
            return go_on();
        }
    }
    auto found = transfers_.find(message.id);
    if (found == transfers_.end() || std::exchange(found->second.cancelled, true))
        return;
    if (auto over = endpoints_.find(found->second.over); over != endpoints_.end())
        tell(self_, over->second.twin, message);
}

// -- the rest of a fabric -------------------------------------------------------------------

caf::result<region_registered>
loopback_io_state::on_register_region(const register_region& message) {
    if (stopping_)
        return stopping();
    if (!message.base || message.bytes == 0)
        return make_error(errc::registration_failed, "a region without memory");
    const region_id id{++last_region_};
    const bool staged = message.copier && !message.staging.empty();
    if (message.kind == memory_kind::cuda && !staged) { // only other routes reach it
        regions_.emplace(id, region{});
        return region_registered{id, {}};
    }
    regions_.emplace(id, region{message.base, message.bytes, staged, message.by_attempt});
    if (staged) {
        service_.add_device(message.staging, message.copier);
        staging_.add_region(id, message.staging);
    }
    return region_registered{id, seal_value(key_label, access_key{self_->id(), id.value})};
}

caf::result<fabric_description> loopback_io_state::on_describe_fabric(const describe_fabric&) {
    return fabric_description{address_, "loopback", true};
}

caf::result<void> loopback_io_state::on_stop_io(const stop_io&) {
    auto stopped = self_->make_response_promise<answer>();
    stopped_.push_back(stopped);
    if (std::exchange(stopping_, true))
        return stopped;
    for (auto& x : writes_)
        stop_write(x, make_error(errc::stopped, "the target's fabric stops"));
    go_on();
    for (auto& [id, x] : transfers_)
        if (auto over = endpoints_.find(x.over); !std::exchange(x.cancelled, true))
            tell(self_, over->second.twin, cancel_transfer{id});
    std::vector<endpoint_id> open;
    for (auto& [id, x] : endpoints_) {
        x.closing = true;
        open.push_back(id);
    }
    for (auto id : open)
        finish_close(id);
    if (!endpoints_.empty()) // give up on peers that do not answer
        self_->run_delayed(with_.bounds.stop_deadline, [this] {
            while (!endpoints_.empty())
                fail_endpoint(endpoints_.begin()->first, stopping());
        });
    finish_stop();
    return stopped;
}

void loopback_io_state::finish_stop() {
    if (!stopping_ || !endpoints_.empty() || !writes_.empty())
        return;
    finish_drains();
    regions_.clear();
    with_.network->detach(address_);
    for (auto& waiting : std::exchange(stopped_, {}))
        waiting.deliver();
    self_->quit();
}

caf::expected<loopback_actor> spawn_loopback_io(caf::actor_system& system, placement where,
                                                loopback_io_state::dependencies with) {
    if (made_to_fail("loopback_io"))
        return make_error(errc::system_call_failed, "loopback_io: made to fail by a test");
    return spawn_at<loopback_actor, loopback_io_state>(system, where, std::move(with));
}

} // namespace kvferry
