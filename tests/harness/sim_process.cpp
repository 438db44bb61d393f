// SPDX-License-Identifier: Apache-2.0
// Puts a simulated rank together, as worker_parts does with a real one.
#include "tests/harness/sim_process.hpp"

#include "actors/instance/rank_info_server.hpp"
#include "messages/trace/handle.hpp"
#include "tests/harness/network/sim_copies.hpp"
#include "tests/harness/network/sim_io.hpp"
#include "tests/harness/planted/planted_deciders.hpp"
#include "tests/harness/simulation.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/loopback/loopback_host_link.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvferry::harness {

namespace {

constexpr microseconds loop_job_cost_max{4};
constexpr microseconds copy_job_cost_max{60};

parallelism layout_of(const instance_shape& shape, std::uint32_t rank) {
    parallelism result;
    result.tp_size = shape.tp;
    result.tp_rank = rank % shape.tp;
    result.attention_dp = shape.attention_dp;
    result.pp_size = shape.pp;
    result.pp_rank = rank / shape.tp;
    result.layers_per_stage.assign(shape.pp, tiny_model{}.layers / shape.pp);
    return result;
}

/// Behind the heads: the same bytes on every rank.
void add_latent(page_table& pages, const tiny_model& model, const parallelism& layout) {
    auto& group = pages.groups.front();
    auto& pool = pages.pools.front();
    pool_view latent;
    latent.roles = {"latent"};
    latent.layout.kind = mapper_kind::replicated;
    latent.layout.num_replicas = layout.attention_dp ? 1 : layout.tp_size;
    latent.layout.replica_index = layout.attention_dp ? 0 : layout.tp_rank;
    latent.layout.element_type = group.views.front().layout.element_type;
    latent.layout.element_shape = {model.head_dim};
    for (std::uint32_t layer = 0; layer < group.layers.size(); ++layer)
        latent.entries.push_back(
            {layer, pool.slot_bytes + layer * model.plane_bytes(), model.plane_bytes()});
    pool.slot_bytes += group.layers.size() * model.plane_bytes();
    pool.slot_stride_bytes = pool.slot_bytes;
    group.views.push_back(std::move(latent));
}

page_table pages_of(const tiny_model& model, const parallelism& layout, std::uint32_t slots) {
    cache_format format;
    format.layers = model.layers;
    format.kv_heads = model.heads;
    format.head_dim = model.head_dim;
    format.element_bytes = model.element_bytes;
    format.tokens_per_block = model.tokens_per_block;
    auto result = build_page_table(format, layout, {slots, 0, 0}).value();
    if (model.latent)
        add_latent(result, model, layout);
    return result;
}

} // namespace

sim_process::sim_process(simulation& in, place at, kvferry::incarnation id)
    : world(&in), where(at), incarnation(id),
      name((at.instance == side::context ? "ctx/" : "gen/") + std::to_string(at.rank)),
      loop(&in.schedule().make_home(name, loop_job_cost_max)),
      copies(&in.schedule().make_home(name + " copies", copy_job_cost_max)),
      layout(layout_of(at.instance == side::context ? in.plan().context : in.plan().generation,
                       at.rank)),
      memory(in.plan().model(), layout,
             pages = pages_of(in.plan().model(), layout, in.plan().slots_per_rank),
             in.plan().slots_per_rank),
      doubt_(std::make_shared<copy_doubt>()),
      failing_registrations_(std::make_shared<int>(
          at.instance == side::context ? in.plan().failing_registrations : 0)) {}

void sim_process::start() {
    const auto& plan = world->plan();
    auto& system = world->schedule().system();
    auto& random = world->schedule().random();
    auto bounds = world->bounds();
    // Each restart may be an upgrade, or its reversal.
    if (plan.mixed_protocols
        && (plan.one_copy ? (plan.seed * 7 + incarnation.value / 1000 * 5) % 24 == 0
                          : (plan.seed + incarnation.value) % 4 == 0))
        bounds.protocol = oldest_protocol_version;
    speaks_newest = bounds.protocol == protocol_version;
    world->frames().speaks(incarnation, bounds.protocol);
    const auto ranks = (where.instance == side::context ? plan.context : plan.generation).ranks();
    placement home{loop};
    rank_identity identity;
    identity.instance = where.instance == side::context ? "ctx" : "gen";
    identity.world_size = ranks;
    identity.layout = layout;
    identity.incarnation = incarnation;
    identity.token = {random.next()};
    identity.machine = plan.is_elsewhere(where) ? name
                       : plan.one_copy          ? identity.instance
                                                : "one machine";
    identity.host_link_name = "link of " + std::to_string(incarnation.value);
    worker = spawn_at<transfer_worker_actor, transfer_worker_state>(
        system, home,
        transfer_worker_state::dependencies{.home = home,
                                            .bounds = bounds,
                                            .route = plan.route,
                                            .identity = identity,
                                            .seed = random.next(),
                                            .deciders = planted_deciders()});
    io_.fabric = spawn_at<wired_fabric_actor, sim_io_state>(
        system, home,
        sim_io_state::dependencies{.network = &world->network(),
                                   .bell = &fabric_bell_,
                                   .self = incarnation,
                                   .default_sink = worker,
                                   .bounds = bounds,
                                   .failing_registrations = failing_registrations_,
                                   .on_read =
                                       [this](std::uint64_t address) {
                                           if (memory.is_free(address))
                                               world->fail(failure::late_write,
                                                           name
                                                               + ": a put reads memory that was "
                                                                 "given back");
                                       },
                                   .seed = random.next()});
    io_.copy = spawn_copy_io(system, placement{copies}, {bounds});
    if (const auto percent = plan.copies_flipped_percent; percent > 0)
        doubt_->flip = [this, dice = random.fork(),
                        percent]() mutable -> std::optional<std::uint64_t> {
            const auto healed = world->network().temper().flipped_percent == 0;
            return !healed && dice.percent(percent) ? std::optional{dice.next()} : std::nullopt;
        };
    if (doubt_->flip
        || std::any_of(plan.faults.begin(), plan.faults.end(),
                       [](const planned_fault& x) { return x.what == fault_kind::undecided; }))
        io_.copy = spawn_doubtful_copies(system, placement{copies}, io_.copy, doubt_);
    // The kernel decides whether the connection ends with the first or with the last thread.
    auto made = spawn_loopback_host_link(
        system, placement{random.percent(50) ? loop : copies},
        {world->host_links(), incarnation, identity.host_link_name, identity.token, bounds});
    io_.host_link = made.value();
    const auto own = parse_info_endpoint(world->endpoint_of(where.instance)).value();
    io_.info_link = spawn_at<ticking_info_link, sim_info_link_state>(
        system, home,
        sim_info_link_state::dependencies{bounds, &world->network(), &world->directory(),
                                          &info_bell_, incarnation, own});
    io_.info_endpoint = to_string(own);
    if (where.rank == 0) {
        io_.server = spawn_rank_info_server(
            system, home, {identity.instance, ranks, planted_server_limits(bounds)});
        tell_from_outside(io_.info_link, publish_info_server{io_.server});
    }
    io_.described = {sim_address(incarnation), "simulated", true};
    tell_from_outside(worker, io_);
    register_memory();
}

void sim_process::register_memory() {
    if (dead || stopped)
        return;
    auto ask_once = [this](asker_actor::pointer self) {
        register_pools pools{{{memory.base(), memory.bytes(), memory_kind::host_shared, -1}},
                             pages};
        ask(self, worker, std::move(pools))
            .then([this](const pools_registered&) { published = true; },
                  [this](const caf::error& reason) {
                      world->reach("registration failed");
                      world->schedule().log(name + " registration failed");
                      world->schedule().note(describe(reason));
                      world->schedule().after(microseconds{2000}, [this] { register_memory(); });
                  });
    };
    world->ask_in(*loop, std::move(ask_once));
}

void sim_process::die() {
    if (std::exchange(dead, true))
        return;
    died_at = world->schedule().now();
    world->schedule().log(name + " dies", incarnation.value);
    fabric_bell_.silence();
    info_bell_.silence();
    world->network().die(incarnation);
    loop->kill();
    auto last_thread = world->schedule().random().between(microseconds{700}, microseconds{9000});
    copies->freeze(false);
    world->schedule().after(last_thread, [this] {
        copies->kill();
        world->schedule().log(name + " gone", incarnation.value);
        world->host_links()->kill(incarnation);
    });
}

bool sim_process::in_doubt() const {
    return !dead && !doubt_->undecided.empty();
}

/// What the source held then may be poison by now, which nobody would notice in free memory.
void sim_process::let_undecided_land() {
    constexpr int landed = 0x5a;
    if (!dead)
        for (const auto& job : std::exchange(doubt_->undecided, {}))
            expand(job, [](std::uint64_t, std::uint64_t target, std::uint64_t bytes) {
                std::memset(reinterpret_cast<void*>(target), landed, bytes);
            });
}

void sim_process::freeze(bool frozen) {
    if (dead)
        return;
    world->schedule().log(name + (frozen ? " frozen" : " thawed"), incarnation.value);
    loop->freeze(frozen);
    copies->freeze(frozen);
    world->host_links()->freeze(incarnation, frozen);
}

void sim_process::slow(bool on) {
    loop->set_job_cost_max(loop_job_cost_max * (on ? 100 : 1));
    copies->set_job_cost_max(copy_job_cost_max * (on ? 100 : 1));
}

} // namespace kvferry::harness
