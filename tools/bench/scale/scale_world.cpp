// SPDX-License-Identifier: Apache-2.0
// Puts ranks together as worker_parts does, but many on one thread.
#include "tools/bench/scale/scale_world.hpp"

#include "actors/host/ask_blocking.hpp"
#include "actors/instance/rank_info_server.hpp"
#include "actors/rank/transfer_worker.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/trace/handle.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/loopback/loopback_io.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <caf/scoped_actor.hpp>

#include <utility>

namespace kvferry::bench {

namespace {

constexpr std::chrono::seconds answer_deadline{60};

cache_format tiny_format() {
    cache_format result;
    result.layers = 1;
    result.kv_heads = 1;
    result.head_dim = 4;
    result.tokens_per_block = 16;
    return result;
}

template <class Handle>
void kill(caf::actor_system& system, const Handle& actor) {
    if (!actor)
        return;
    caf::scoped_actor self{system, true};
    self->send_exit(actor, caf::exit_reason::kill);
    self->wait_for(actor);
}

} // namespace

scale_world::scale_world(caf::actor_system& system) : system_(&system) {
    bounds_.sessions_max = std::size_t{1} << 20;
    bounds_.dial_deadline = answer_deadline;
    bounds_.info_deadline = 10 * answer_deadline;
    bounds_.registration_period = 10 * answer_deadline; // nothing that is not measured meanwhile
}

scale_world::~scale_world() = default;

caf::expected<std::unique_ptr<scale_world>> scale_world::make(caf::actor_system& system,
                                                              std::uint32_t peers) {
    std::unique_ptr<scale_world> result{new scale_world{system}};
    result->meeting_ = std::make_unique<loopback_world>(system);
    for (auto* loop : {&result->own_loop_, &result->peer_loop_}) {
        auto made = io_loop::make(system, {"kvferry-scale", std::chrono::microseconds{0}});
        if (!made)
            return std::move(made.error());
        *loop = std::move(*made);
    }
    if (auto problem = result->start(result->own_, *result->own_loop_, "own"))
        return problem;
    result->peers_.resize(peers);
    for (auto& peer : result->peers_)
        if (auto problem = result->start(peer, *result->peer_loop_,
                                         "peer-" + std::to_string(result->started_)))
            return problem;
    result->silent_ = spawn_rank_info_server(system, placement{result->peer_loop_.get()},
                                             {"silent", 2, result->bounds_});
    auto endpoint = result->publish(result->silent_);
    if (!endpoint)
        return std::move(endpoint.error());
    result->silent_endpoint_ = std::move(*endpoint);
    return result;
}

caf::expected<std::string> scale_world::publish(const rank_info_server_actor& server) {
    auto published = ask_blocking<info_server_published>(
        *system_, meeting_->info_link(), publish_info_server{server}, answer_deadline);
    if (!published)
        return std::move(published.error());
    return published->endpoint;
}

caf::error scale_world::start(scale_rank& into, io_loop& loop, const std::string& name) {
    const placement home{&loop};
    rank_identity identity;
    identity.instance = name;
    identity.layout.layers_per_stage = {tiny_format().layers};
    identity.incarnation = {++started_};
    identity.token = {started_};
    identity.machine = name;
    auto pages = build_page_table(tiny_format(), identity.layout, {1, 0, 0});
    if (!pages)
        return std::move(pages.error());
    into.memory.resize(footprint_bytes(pages->pools[0]));
    into.worker = spawn_at<transfer_worker_actor, transfer_worker_state>(
        *system_, home,
        transfer_worker_state::dependencies{.home = home,
                                            .bounds = bounds_,
                                            .route = route_choice::automatic,
                                            .identity = identity,
                                            .seed = started_,
                                            .openers = into.openers});
    auto fabric = spawn_loopback_io(
        *system_, home, {meeting_->network(), identity.incarnation, into.worker, bounds_});
    if (!fabric)
        return std::move(fabric.error());
    into.fabric = *fabric;
    into.server = spawn_rank_info_server(*system_, home, {name, 1, bounds_});
    auto endpoint = publish(into.server);
    if (!endpoint)
        return std::move(endpoint.error());
    into.endpoint = *endpoint;
    auto described =
        ask_blocking<fabric_description>(*system_, into.fabric, describe_fabric{}, answer_deadline);
    if (!described)
        return std::move(described.error());
    adopt_io io;
    io.fabric = into.fabric;
    io.copy = spawn_copy_io(*system_, home, {bounds_});
    io.info_link = meeting_->info_link();
    io.server = into.server;
    io.info_endpoint = into.endpoint;
    io.described = std::move(*described);
    tell_from_outside(into.worker, std::move(io));
    host_region region;
    region.base = into.memory.data();
    region.bytes = into.memory.size();
    auto registered = ask_blocking<pools_registered>(
        *system_, into.worker, register_pools{{region}, std::move(*pages)}, answer_deadline);
    if (!registered)
        return std::move(registered.error());
    into.info = std::move(registered->info);
    return {};
}

caf::expected<worker_statistics> scale_world::settle() {
    caf::expected<worker_statistics> result{caf::error{}};
    for (int round = 0; round < settling_rounds; ++round) {
        result = ask_blocking<worker_statistics>(*system_, own_.worker, query_statistics{},
                                                 answer_deadline);
        if (!result)
            return result;
    }
    return result;
}

void scale_world::behind_rounds(int rounds, std::function<void()> call) {
    own_loop_->post([this, rounds, call = std::move(call)]() mutable {
        rounds > 0 ? behind_rounds(rounds - 1, std::move(call)) : call();
    });
}

void scale_world::lose(scale_rank& peer) {
    kill(*system_, peer.fabric);
}

caf::error scale_world::stop() {
    auto stop_one = [this](scale_rank& rank) -> caf::error {
        auto stopped = ask_blocking<worker_stopped>(
            *system_, rank.worker, stop_worker{answer_deadline}, 2 * answer_deadline);
        kill(*system_, rank.server);
        if (!stopped)
            return std::move(stopped.error());
        if (!stopped->unproven.empty())
            return make_error(errc::stopped, stopped->unproven.front());
        return {};
    };
    auto result = stop_one(own_);
    for (auto& peer : peers_)
        if (auto problem = stop_one(peer); problem && !result)
            result = problem;
    kill(*system_, silent_);
    return result;
}

} // namespace kvferry::bench
