// SPDX-License-Identifier: Apache-2.0
// Any layout to any layout: each target byte is written once, from the right source, and both sides
// compute the same cohorts. There are 26,880 topologies, each with random slot formats, block
// sizes, windows and positions. A sample runs by default, all with KVFERRY_TOPOLOGIES=all, one with
// KVFERRY_SEED=<seed>.
#include "tests/support/caf_setup.hpp"
#include "tests/topology/dense_cache.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct topology_case {
    dense_cache cache;
    dense_side context;
    dense_side generation;
    std::uint32_t context_dp = 0;
    std::uint32_t generation_dp = 0;
    std::uint32_t prompt_tokens = 1;
    std::uint32_t reused_tokens = 0;
};

std::vector<std::uint32_t> even_stages(std::uint32_t layers, std::uint32_t stages) {
    std::vector<std::uint32_t> result(stages, layers / stages);
    for (std::uint32_t stage = 0; stage < layers % stages; ++stage)
        ++result[stage];
    return result;
}

std::vector<std::uint32_t> layers_below(std::uint32_t end) {
    std::vector<std::uint32_t> result;
    for (std::uint32_t layer = 0; layer < end; ++layer)
        result.push_back(layer);
    return result;
}

/// K and V of `heads` heads; for 0 heads, one latent.
std::vector<dense_tensor> tensors_of(std::uint32_t heads, std::uint32_t row_bytes) {
    if (heads == 0)
        return {{"key", mapper_kind::replicated, 1, row_bytes}};
    return {{"key", mapper_kind::hnd, heads, row_bytes},
            {"value", mapper_kind::hnd, heads, row_bytes}};
}

/// Draws everything that the enumeration does not fix.
void randomize(topology_case& x, std::uint32_t heads, random_engine& random) {
    const auto row_bytes = 1 + below(random, 3);
    x.cache.groups = {{layers_below(x.cache.layers), tensors_of(heads, row_bytes)}};
    // Every other layer has a window: two lists of blocks per request.
    if (below(random, 3) == 0) {
        auto& full = x.cache.groups[0];
        auto sliding = full;
        sliding.window = 1 + below(random, 9);
        full.layers.clear();
        sliding.layers.clear();
        for (std::uint32_t layer = 0; layer < x.cache.layers; ++layer)
            (layer % 2 == 0 ? full : sliding).layers.push_back(layer);
        x.cache.groups.push_back(sliding);
    }
    if (below(random, 4) == 0)
        for (auto& group : x.cache.groups)
            group.tensors.push_back({"indexer_k", mapper_kind::replicated, 1, 3});
    auto state_goes = [](const dense_side& side) {
        return side.attention_dp ? side.cp == 1 && 12 % side.attention_tp == 0
                                 : 12 % (side.tp * side.cp) == 0;
    };
    const bool cp_alike = x.context.cp != 1 && x.generation.cp != 1; // then blocks are alike too
    if (!cp_alike && below(random, 4) == 0 && state_goes(x.context) && state_goes(x.generation))
        x.cache.groups.push_back({layers_below(x.cache.layers),
                                  {{"ssm_state", mapper_kind::hnd, 12, 2},
                                   {"conv_state", mapper_kind::sectioned, 12, 1, {24, 12}}},
                                  true});
    for (auto* side : {&x.context, &x.generation}) {
        side->order = below(random, 3) == 0 ? mapper_kind::nhd : mapper_kind::hnd;
        side->style = static_cast<slot_style>(below(random, 5));
        side->tokens_per_block = 1 + below(random, 3);
    }
    if (cp_alike || below(random, 3) != 0)
        x.generation.tokens_per_block = x.context.tokens_per_block;
    x.prompt_tokens = 1 + below(random, 9);
    x.reused_tokens = below(random, 3) == 0 ? below(random, x.prompt_tokens) : 0;
    for (auto* side : {&x.context, &x.generation})
        side->slot_count = (x.prompt_tokens + side->tokens_per_block - 1) / side->tokens_per_block
                           + below(random, 2);
    x.generation_dp =
        x.generation.attention_dp ? below(random, x.generation.tp / x.generation.attention_tp) : 0;
}

/// The enumeration: 14 context sides x 10 generation sides x 16 pairs of stages x 4 heads x 3
/// layers.
std::vector<topology_case> all_topologies(std::vector<std::uint32_t>& heads) {
    std::vector<topology_case> result;
    struct side {
        std::uint32_t tp;
        bool attention_dp;
        std::uint32_t dp_rank;
    };
    std::vector<side> contexts, generations;
    for (std::uint32_t tp : {1, 2, 4, 8, 16}) {
        contexts.push_back({tp, false, 0});
        contexts.push_back({tp, true, 0});
        if (tp > 1)
            contexts.push_back({tp, true, tp - 1});
        generations.push_back({tp, false, 0});
        generations.push_back({tp, true, 0});
    }
    for (std::uint32_t layers : {4, 5, 7})
        for (std::uint32_t head_count : {0, 2, 4, 8})
            for (const auto& from : contexts)
                for (const auto& to : generations)
                    for (std::uint32_t from_pp = 1; from_pp <= 4; ++from_pp)
                        for (std::uint32_t to_pp = 1; to_pp <= 4; ++to_pp) {
                            topology_case x;
                            x.cache.layers = layers;
                            x.context = {from.tp, from_pp, 1, from.attention_dp,
                                         even_stages(layers, from_pp)};
                            x.generation = {to.tp, to_pp, 1, to.attention_dp,
                                            even_stages(layers, to_pp)};
                            x.context_dp = from.dp_rank;
                            result.push_back(x);
                            heads.push_back(head_count);
                        }
    return result;
}

/// Sizes that are not powers of two, context parallelism on either side, uneven stages.
topology_case odd_topology(std::uint32_t& heads, random_engine& random) {
    topology_case x;
    const std::uint32_t sizes[] = {1, 2, 3, 4, 6, 12};
    heads = below(random, 4) == 0 ? 0 : below(random, 2) == 0 ? 12 : 24;
    x.cache.layers = 3 + below(random, 5);
    auto stages = [&](std::uint32_t count) {
        std::vector<std::uint32_t> result(count, 1);
        for (auto rest = x.cache.layers - count; rest > 0; --rest)
            ++result[below(random, count)];
        return result;
    };
    auto make = [&] {
        dense_side side;
        side.tp = sizes[below(random, 6)];
        side.pp = 1 + below(random, 3);
        side.attention_dp = below(random, 4) == 0;
        for (auto size : {2u, 4u})
            if (side.attention_dp && side.tp % size == 0 && below(random, 3) == 0)
                side.attention_tp = size;
        side.stages = stages(side.pp);
        return side;
    };
    x.context = make();
    x.generation = make();
    if (below(random, 3) == 0)
        (below(random, 3) == 0 ? x.context : x.generation).cp = 2;
    if (below(random, 6) == 0)
        x.context.cp = x.generation.cp = 2;
    x.context_dp =
        x.context.attention_dp ? below(random, x.context.tp / x.context.attention_tp) : 0;
    return x;
}

/// The memory of one rank and its request.
struct rank_memory {
    dense_rank rank;
    kv_slice slice;
    std::vector<std::uint8_t> bytes;
    std::vector<memory_region> regions;

    std::vector<pool_base> bases() {
        auto result = pool_bases(*rank.info.pages, {reinterpret_cast<std::uint64_t>(bytes.data())});
        REQUIRE(result);
        return *result;
    }
};

rank_memory memory_of(const topology_case& x, dense_rank rank, const dense_request& request,
                      random_engine& random) {
    rank_memory result;
    result.slice = dense_slice(x.cache, rank, request, random);
    result.bytes.assign(rank.region_bytes, 0);
    result.regions = {{0x1000, rank.region_bytes, memory_kind::host_private, {}}};
    result.rank = std::move(rank);
    return result;
}

std::vector<rank_info> infos_of(const std::vector<dense_rank>& ranks) {
    std::vector<rank_info> result;
    for (const auto& rank : ranks)
        result.push_back(rank.info);
    return result;
}

/// The prompt in one to three pieces, cut anywhere.
std::vector<kv_slice> pieces_of(const kv_slice& whole, random_engine& random) {
    std::vector<std::uint32_t> cuts{0, whole.tokens.end};
    for (auto extra = below(random, 3); extra > 0; --extra)
        cuts.push_back(below(random, whole.tokens.end + 1));
    std::sort(cuts.begin(), cuts.end());
    std::vector<kv_slice> result;
    for (std::size_t index = 1; index < cuts.size(); ++index) {
        result.push_back(whole);
        result.back().tokens = {cuts[index - 1], cuts[index]};
        result.back().last = index + 1 == cuts.size();
    }
    return result;
}

std::string text_of_error(const caf::error& error) {
    return error ? kvferry::describe(error) : std::string{};
}

/// Copies, and counts how often each target byte is written.
void transfer(rank_memory& from, rank_memory& to, std::vector<std::uint8_t>& writes,
              plan_cache& cache, random_engine& random) {
    for (const auto& piece : pieces_of(from.slice, random)) {
        auto plan = make_plan(from.rank.info, piece, to.rank.info, to.slice, cache);
        REQUIRE_MESSAGE(plan, text_of_error(plan ? caf::error{} : plan.error()));
        const auto error =
            check_plan(*plan, *from.rank.info.pages, from.regions, *to.rank.info.pages, to.regions);
        REQUIRE_MESSAGE(!error, text_of_error(error));
        std::uint64_t bytes = 0, fragments = 0;
        auto write = [&](std::uint64_t source, std::uint64_t target, std::uint64_t size) {
            std::memcpy(reinterpret_cast<void*>(target), reinterpret_cast<const void*>(source),
                        size);
            const auto at = target - reinterpret_cast<std::uint64_t>(to.bytes.data());
            for (std::uint64_t byte = 0; byte < size; ++byte)
                ++writes[at + byte];
            bytes += size;
            ++fragments;
        };
        if (below(random, 2) == 0) {
            expand(*plan, from.bases(), to.bases(), write);
            CHECK(fragments == plan->fragments);
        } else {
            const copy_job job{
                std::make_shared<const copy_plan>(*plan), from.bases(), to.bases(), {}};
            plan_cursor cursor;
            while (auto x = cursor.next(job, 1 + below(random, 64)))
                write(x->source_address, x->target_address, x->bytes);
        }
        CHECK(bytes == plan->bytes);
    }
}

/// Counts bytes that differ from the model: wrong, missing, written twice or needlessly.
std::uint64_t wrong_bytes(const topology_case& x, const rank_memory& receiver,
                          const std::vector<std::uint8_t>& writes) {
    const auto source_block = x.context.tokens_per_block;
    const bool equal_blocks = source_block == x.generation.tokens_per_block;
    std::vector<std::uint8_t> wanted(writes.size(), 0);
    std::uint64_t wrong = 0;
    for_each_dense_byte(
        x.cache, receiver.rank, receiver.slice,
        [&](std::uint64_t at, std::uint8_t value, std::uint32_t group, std::uint32_t token) {
            const auto& window = x.cache.groups[group].window;
            const bool evicted =
                window
                && (token / source_block + 1) * source_block + *window <= x.prompt_tokens + 1;
            if (evicted || (token >= x.prompt_tokens && !equal_blocks))
                return;
            wanted[at] = 1;
            wrong += receiver.bytes[at] != value;
        });
    for (std::size_t at = 0; at < writes.size(); ++at)
        wrong += writes[at] != wanted[at];
    return wrong;
}

void check_symmetry(const std::vector<rank_info>& context, const std::vector<rank_info>& generation,
                    const rank_info& receiver, const cohorts& found, const topology_case& x) {
    CHECK(found.aux.size() == 1);
    CHECK(found.layers_skipped.empty());
    for (const auto& writer : context) {
        if (dp_rank(writer.layout) != x.context_dp)
            continue;
        const auto in = [&writer](const std::vector<rank_id>& ranks) {
            return std::count(ranks.begin(), ranks.end(), writer.rank) == 1;
        };
        CHECK(in(found.kv) == should_send_kv(writer, receiver));
        CHECK(in(found.aux) == should_send_aux(writer, receiver));
        if (receiver.rank.value % 5 == 0) { // this check is slow
            const auto served = receivers_of(writer, generation, x.generation_dp, true);
            CHECK((std::count(served.begin(), served.end(), receiver.rank) == 1)
                  == (in(found.kv) || in(found.aux)));
        }
    }
}

void run_case(topology_case x, std::uint32_t heads, std::uint64_t seed) {
    random_engine random{seed};
    randomize(x, heads, random);
    INFO("KVFERRY_SEED=" << seed << ": " << testing::describe(x.context) << " -> "
                         << testing::describe(x.generation) << ", " << heads << " heads, "
                         << x.cache.layers << " layers, " << x.cache.groups.size()
                         << " groups, prompt " << x.prompt_tokens << ", reused "
                         << x.reused_tokens);
    const auto context = make_dense_ranks("ctx", x.cache, x.context, random);
    const auto generation = make_dense_ranks("gen", x.cache, x.generation, random);
    const auto context_infos = infos_of(context);
    const auto generation_infos = infos_of(generation);
    std::vector<rank_memory> writers;
    for (const auto& rank : context) {
        writers.push_back(memory_of(x, rank, {x.prompt_tokens, 0, {}}, random));
        auto& bytes = writers.back().bytes;
        if (dp_rank(rank.info.layout) == x.context_dp)
            for_each_dense_byte(
                x.cache, rank, writers.back().slice,
                [&bytes](std::uint64_t at, std::uint8_t value, auto, auto) { bytes[at] = value; });
    }
    plan_cache cache{8}; // fewer entries than pairs, so that some are replaced
    for (const auto& rank : generation) {
        if (dp_rank(rank.info.layout) != x.generation_dp)
            continue;
        auto found = cohorts_of(rank.info, context_infos, x.context_dp);
        REQUIRE_MESSAGE(found, text_of_error(found ? caf::error{} : found.error()));
        check_symmetry(context_infos, generation_infos, rank.info, *found, x);
        const auto holes = random();
        auto receiver = memory_of(x, rank,
                                  {x.prompt_tokens, x.reused_tokens,
                                   [holes](std::uint32_t group, std::uint32_t block) {
                                       return (holes >> ((group * 16 + block) % 64) & 3) == 3;
                                   }},
                                  random);
        std::vector<std::uint8_t> writes(receiver.bytes.size(), 0);
        for (auto& writer : writers)
            if (std::count(found->kv.begin(), found->kv.end(), writer.rank.info.rank) == 1)
                transfer(writer, receiver, writes, cache, random);
        CHECK(wrong_bytes(x, receiver, writes) == 0);
    }
}

constexpr std::uint64_t odd_seeds_from = 1'000'000;

void run_seed(const std::vector<topology_case>& all, const std::vector<std::uint32_t>& heads,
              std::uint64_t seed) {
    if (seed < odd_seeds_from) {
        run_case(all.at(seed), heads.at(seed), seed);
        return;
    }
    random_engine random{seed};
    std::uint32_t head_count = 0;
    const auto x = odd_topology(head_count, random);
    run_case(x, head_count, seed);
}

} // namespace

TEST_CASE("planner: any layout to any layout, each target byte once and from the right source") {
    std::vector<std::uint32_t> heads;
    const auto all = all_topologies(heads);
    REQUIRE(all.size() == 26'880);
    if (const char* seed = std::getenv("KVFERRY_SEED")) {
        run_seed(all, heads, std::stoull(seed));
        return;
    }
    const bool whole = std::getenv("KVFERRY_TOPOLOGIES") != nullptr;
    // 31 shares no factor with the enumeration's sizes, so the sample covers every value of each.
    for (std::uint64_t seed = 0; seed < all.size(); seed += whole ? 1 : 31)
        run_seed(all, heads, seed);
    for (std::uint64_t seed = 0; seed < (whole ? 5000 : 200); ++seed)
        run_seed(all, heads, odd_seeds_from + seed);
}
