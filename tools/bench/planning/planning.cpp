// SPDX-License-Identifier: Apache-2.0
// The cases, and the clock around the planner.
#include "tools/bench/planning/planning.hpp"

#include "messages/type_ids.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

namespace kvferry::bench {

namespace {

/// First 491,520 fragments; then fewer and more blocks, to see how the time grows; then 6,553,600
/// fragments, and blocks of different sizes.
const std::vector<planning_case> cases{
    {"hnd heads split", 60, 4096, false, 32, 32},
    {"hnd heads split, 1/4 of the blocks", 60, 1024, false, 32, 32},
    {"hnd heads split, 4 times the blocks", 60, 16384, false, 32, 32},
    {"nhd heads split, 6.5 million fragments", 25, 4096, true, 32, 32},
    {"hnd heads split, blocks of 32 into 64", 60, 4096, false, 32, 64},
    {"hnd heads split, blocks of 64 into 32", 60, 2048, false, 64, 32},
};

/// Rank 0 of a TP instance of 8 KV heads of 128 elements of 2 bytes.
caf::expected<rank_info> rank_of(const char* name, const planning_case& x, std::uint32_t tp_size,
                                 std::uint32_t tokens_per_block) {
    cache_format format;
    format.layers = x.layers;
    format.kv_heads = 8;
    format.head_dim = 128;
    format.tokens_per_block = tokens_per_block;
    format.layout = x.token_major ? mapper_kind::nhd : mapper_kind::hnd;
    rank_info result;
    result.instance = name;
    result.world_size = tp_size;
    result.layout.tp_size = tp_size;
    result.layout.layers_per_stage = {x.layers};
    const auto tokens = std::uint64_t{x.blocks} * x.context_tokens_per_block;
    auto pages = build_page_table(format, result.layout,
                                  {static_cast<std::uint32_t>(tokens / tokens_per_block), 0, 0});
    if (!pages)
        return pages.error();
    result.pages = std::move(*pages);
    return result;
}

/// All blocks of the prompt in slots in random order.
kv_slice slice_of(const rank_info& rank, std::uint32_t prompt_tokens, std::uint32_t seed) {
    block_list blocks;
    blocks.slots.resize(rank.pages->pools[0].slot_count);
    std::iota(blocks.slots.begin(), blocks.slots.end(), 0);
    std::shuffle(blocks.slots.begin(), blocks.slots.end(), std::mt19937{seed});
    return {{0, prompt_tokens}, prompt_tokens, {std::move(blocks)}, true};
}

template <class F>
double microseconds(F&& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
        .count();
}

double median_of_rounds(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

caf::expected<planning_times> measure_case(const planning_case& x, std::uint32_t rounds) {
    auto writer = rank_of("context", x, 4, x.context_tokens_per_block);
    if (!writer)
        return writer.error();
    auto receiver = rank_of("generation", x, 2, x.generation_tokens_per_block);
    if (!receiver)
        return receiver.error();
    const auto prompt = x.blocks * x.context_tokens_per_block;
    const auto source = slice_of(*writer, prompt, 1);
    const auto target = slice_of(*receiver, prompt, 2);
    const std::vector<memory_region> regions{
        {0, std::uint64_t{1} << 47, memory_kind::host_private, {}}};
    planning_times result;
    result.shape = x;
    std::vector<double> first, cached, check;
    for (std::uint32_t round = 0; round < rounds; ++round) {
        plan_cache cache;
        caf::error problem;
        first.push_back(microseconds([&] {
            if (auto made = cache.find_or_make(*writer, *receiver); !made)
                problem = made.error();
        }));
        if (problem)
            return problem;
        caf::expected<copy_plan> plan{copy_plan{}};
        cached.push_back(
            microseconds([&] { plan = make_plan(*writer, source, *receiver, target, cache); }));
        if (!plan)
            return plan.error();
        check.push_back(microseconds([&] {
            problem = check_plan(*plan, *writer->pages, regions, *receiver->pages, regions);
        }));
        if (problem)
            return problem;
        result.fragments = plan->fragments;
        result.bytes = plan->bytes;
        result.runs = 0;
        for (const auto& part : plan->parts)
            result.runs += part.layout->runs.size();
    }
    result.first_us = median_of_rounds(first);
    result.cached_us = median_of_rounds(cached);
    result.check_us = median_of_rounds(check);
    return result;
}

/// A request for 1000 blocks of 80 layers that all share one list of slots.
caf::expected<std::uint64_t> request_bytes() {
    request_data request;
    request.target.tokens = {0, 32000};
    request.target.prompt_tokens = 32000;
    block_list blocks;
    for (std::int32_t slot = 0; slot < 1000; ++slot)
        blocks.slots.push_back(1'000'000 + slot * 7);
    request.target.groups.push_back(std::move(blocks));
    request.receivers = {rank_id{0}, rank_id{1}};
    auto frame = encode(request, limits{}.message_bytes_max);
    if (!frame)
        return frame.error();
    return frame->size();
}

} // namespace

caf::expected<planning_result> measure_planning(std::uint32_t rounds) {
    planning_result result;
    for (const auto& x : cases) {
        auto times = measure_case(x, std::max(1u, rounds));
        if (!times)
            return add_context(times.error(), x.name);
        result.cases.push_back(*times);
    }
    auto bytes = request_bytes();
    if (!bytes)
        return bytes.error();
    result.request_bytes = *bytes;
    return result;
}

} // namespace kvferry::bench
