// SPDX-License-Identifier: Apache-2.0
// Layer groups beyond plain K/V blocks: recurrent state, side caches, several pools.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format small_format() {
    cache_format result;
    result.layers = 2;
    result.kv_heads = 4;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    return result;
}

/// Adds a group with one state of 4 heads of 4096 bytes for layer 7, cut over TP and CP ranks.
void add_state(std::vector<rank_info>& ranks) {
    for (auto& rank : ranks) {
        const auto& x = rank.layout;
        pool_view view;
        view.pool = 1;
        view.roles = {"ssm_state"};
        view.layout.num_shards = x.tp_size * x.cp_size;
        view.layout.shard_index = x.tp_rank * x.cp_size + x.cp_rank;
        view.layout.shard_unit_bytes = 4096;
        const auto bytes = 4 * 4096 / view.layout.num_shards;
        view.entries = {{0, 0, bytes}};
        rank.pages->groups.push_back({{7}, std::nullopt, std::nullopt, {view}});
        rank.pages->pools.push_back({0, 1 << 20, bytes, bytes, 3});
    }
}

/// Adds a replicated side cache behind the K/V bytes of every slot.
void add_indexer(std::vector<rank_info>& ranks) {
    for (auto& rank : ranks) {
        auto& pool = rank.pages->pools[0];
        auto& group = rank.pages->groups[0];
        pool_view view;
        view.roles = {"indexer_k"};
        view.layout.kind = mapper_kind::replicated;
        view.layout.num_replicas = rank.layout.tp_size;
        view.layout.replica_index = rank.layout.tp_rank;
        view.entries = {{0, pool.slot_bytes, 32}, {1, pool.slot_bytes + 32, 32}};
        pool.slot_bytes = pool.slot_stride_bytes += 64;
        group.views.push_back(view);
    }
}

} // namespace

TEST_CASE("planner: recurrent state goes from shard to shard, also where the ranks overlap in TP") {
    // Helix: both CP ranks of the receiver overlap both TP ranks of the context for blocks, but a
    // state shard has one owner on each side.
    auto context = make_instance("ctx", {2}, small_format());
    auto generation = make_instance("gen", {1, 1, 2}, small_format());
    add_state(context);
    add_state(generation);
    const kv_slice slice{{0, 8}, 8, {{0, {1, 2}}, {0, {1}}}};
    plan_cache cache;
    for (const auto& receiver : generation) {
        const auto found = cohorts_of(receiver, context, 0);
        REQUIRE(found);
        CHECK(list(found->kv) == "[0, 1]");
        for (const auto& writer : context) {
            const auto plan = make_plan(writer, slice, receiver, slice, cache);
            REQUIRE(plan);
            CHECK(plan->parts.size() == (writer.rank == receiver.rank ? 2u : 1u));
            if (plan->parts.size() == 2)
                CHECK(plan->parts[1].layout->runs == std::vector<run>{{0, 0, 8192, 1, 0, 0}});
        }
    }
}

TEST_CASE("planner: a rank that has only state for a receiver is in its cohort for that alone") {
    // One CP rank of four on the receiver's side: four state shards, two per context rank.
    auto context = make_instance("ctx", {2}, small_format());
    auto generation = make_instance("gen", {1, 1, 4}, small_format());
    for (auto* side : {&context, &generation}) {
        add_state(*side);
        for (auto& rank : *side)
            rank.pages->groups[0].views.clear();
    }
    for (const auto& receiver : generation) {
        const auto found = cohorts_of(receiver, context, 0);
        REQUIRE(found);
        CHECK(numbers(found->kv) == std::vector<std::uint32_t>{receiver.rank.value / 2});
        CHECK(list(found->aux) == "[0]");
    }
}

TEST_CASE("planner: views of one slot share one template, each with its own election") {
    // K/V heads come from both context ranks, the replicated side cache from the first.
    auto context = make_instance("ctx", {2}, small_format());
    auto generation = make_instance("gen", {1}, small_format());
    add_indexer(context);
    add_indexer(generation);
    const kv_slice slice{{0, 8}, 8, {{0, {1, 2}}}};
    plan_cache cache;
    const std::uint64_t kv_bytes = 2 * 2 * 2 * 4 * 8 * 2; // layers, K and V, heads, tokens, dim
    for (const auto& writer : context) {
        const auto plan = make_plan(writer, slice, generation[0], slice, cache);
        REQUIRE(plan);
        REQUIRE(plan->parts.size() == 1);
        CHECK(plan->parts[0].layout->bytes == kv_bytes + (writer.rank == rank_id{0} ? 64 : 0));
        CHECK(plan->parts[0].slots.size() == 2);
    }
}

TEST_CASE("planner: views of a receiver that overlap in a slot are refused, not written twice") {
    auto context = make_instance("ctx", {1}, small_format());
    auto generation = make_instance("gen", {1}, small_format());
    add_indexer(context);
    add_indexer(generation);
    for (auto& entry : generation[0].pages->groups[0].views[1].entries)
        entry.offset_bytes -= 64;
    const kv_slice slice{{0, 8}, 8, {{0, {1, 2}}}};
    plan_cache cache;
    const auto plan = make_plan(context[0], slice, generation[0], slice, cache);
    REQUIRE_FALSE(plan);
    CHECK(code_of(plan.error()) == errc::plan_invalid);
    CHECK(text_of(plan.error()).find("template from ctx/0 to gen/0") != std::string::npos);
}

TEST_CASE("planner: scales of a block go with its heads, and are never cut between tokens") {
    // One scale of 4 bytes per head, block and layer, in a pool of its own.
    auto context = make_instance("ctx", {2}, small_format());
    auto generation = make_instance("gen", {4}, small_format());
    for (auto* side : {&context, &generation})
        for (auto& rank : *side) {
            auto view = rank.pages->groups[0].views[0];
            const auto heads = view.entries[0].bytes / *view.layout.shard_unit_bytes;
            view.roles = {"kv_scale"};
            view.pool = 1;
            view.layout.shard_unit_bytes = 4;
            view.layout.element_shape.clear();
            view.entries = {{0, 0, heads * 4}, {1, heads * 4, heads * 4}};
            rank.pages->groups[0].views.push_back(view);
            rank.pages->pools.push_back({0, 1 << 20, heads * 8, heads * 8, 8});
        }
    const kv_slice slice{{0, 8}, 8, {{0, {1, 2}}}};
    plan_cache cache;
    // Head 3 of 4: the second of the two of context rank 1.
    const auto plan = make_plan(context[1], slice, generation[3], slice, cache);
    REQUIRE(plan);
    REQUIRE(plan->parts.size() == 2);
    CHECK(plan->parts[1].target_pool == 1);
    CHECK(plan->parts[1].layout->runs == std::vector<run>{{4, 0, 4, 2, 8, 4}});
    CHECK(plan->parts[1].slots == plan->parts[0].slots);

    auto format = small_format();
    format.tokens_per_block = 8;
    auto other = make_instance("gen", {4}, format)[3];
    other.pages->groups[0].views.push_back(generation[3].pages->groups[0].views[1]);
    other.pages->pools.push_back(generation[3].pages->pools[1]);
    const auto refused = make_plan(context[1], slice, other, slice, cache);
    REQUIRE_FALSE(refused);
    CHECK(text_of(refused.error()).find("without element_shape") != std::string::npos);
}
