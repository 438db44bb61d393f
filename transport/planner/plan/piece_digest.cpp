// SPDX-License-Identifier: Apache-2.0
// One pass over the stretches of a plan.
#include "transport/planner/plan/piece_digest.hpp"

#include "transport/planner/layout/topology.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvferry {

namespace {

class hasher {
public:
    hasher() { XXH3_64bits_reset(&state_); }

    void add(std::uint64_t address, std::uint64_t bytes) {
        XXH3_64bits_update(&state_, reinterpret_cast<const void*>(address), bytes);
    }
    std::uint64_t value() const { return XXH3_64bits_digest(&state_); }

private:
    XXH3_state_t state_;
};

/// Dummy pools for the side that is not read: as many as the plan names.
std::vector<pool_base> bases_for(const copy_plan& plan, std::uint32_t plan_part::*pool) {
    std::uint32_t count = 0;
    for (const auto& part : plan.parts)
        count = std::max(count, part.*pool + 1);
    return std::vector<pool_base>(count);
}

} // namespace

std::uint64_t digest_of_sources(const copy_plan& plan, const std::vector<pool_base>& pools) {
    hasher read;
    const auto none = bases_for(plan, &plan_part::target_pool);
    expand(plan, pools, none, [&read](auto from, auto, auto bytes) { read.add(from, bytes); });
    return read.value();
}

std::uint64_t digest_of_targets(const copy_plan& plan, const std::vector<pool_base>& pools) {
    hasher written;
    const auto none = bases_for(plan, &plan_part::source_pool);
    expand(plan, none, pools, [&written](auto, auto to, auto bytes) { written.add(to, bytes); });
    return written.value();
}

namespace {

/// `address` picks the side of a stretch.
plan_digest sums_of(const copy_job& job, std::uint64_t plan_stretch::*address) {
    word_sums result{{0, pairs_of(*job.plan)}};
    plan_cursor cursor;
    for (;;) {
        const auto pair = cursor.pair();
        const auto word = cursor.word();
        const auto next = cursor.next(job, std::numeric_limits<std::uint64_t>::max());
        if (!next)
            return result.value();
        result.add(pair, word, reinterpret_cast<const void*>((*next).*address), next->bytes);
    }
}

/// Not owned by the pointer.
std::shared_ptr<const copy_plan> borrowed(const copy_plan& plan) {
    return {std::shared_ptr<const void>{}, &plan};
}

} // namespace

plan_digest sums_of_sources(const copy_plan& plan, const std::vector<pool_base>& pools) {
    return sums_of({borrowed(plan), pools, bases_for(plan, &plan_part::target_pool), {}},
                   &plan_stretch::source_address);
}

plan_digest sums_of_targets(const copy_plan& plan, const std::vector<pool_base>& pools) {
    return sums_of({borrowed(plan), bases_for(plan, &plan_part::source_pool), pools, {}},
                   &plan_stretch::target_address);
}

namespace {

/// One side of a run, or of a pair, on both.
run doubled(run x, bool targets) {
    if (targets) {
        x.source_offset_bytes = x.target_offset_bytes;
        x.source_stride_bytes = x.target_stride_bytes;
    } else {
        x.target_offset_bytes = x.source_offset_bytes;
        x.target_stride_bytes = x.source_stride_bytes;
    }
    return x;
}

copy_job reading(const copy_plan& plan, const std::vector<pool_base>& pools, bool targets) {
    auto result = std::make_shared<copy_plan>(plan);
    for (auto& part : result->parts) {
        auto layout = std::make_shared<copy_template>(*part.layout);
        for (auto& x : layout->runs)
            x = doubled(x, targets);
        part.layout = std::move(layout);
        part.source_pool = part.target_pool = targets ? part.target_pool : part.source_pool;
        std::vector<slot_pair> slots(part.slots.begin(), part.slots.end());
        for (auto& x : slots)
            x.source = x.target = targets ? x.target : x.source;
        part.slots = std::move(slots);
    }
    return {std::move(result), pools, pools, {}};
}

} // namespace

copy_job reading_sources(const copy_plan& plan, const std::vector<pool_base>& pools) {
    return reading(plan, pools, false);
}

copy_job reading_targets(const copy_plan& plan, const std::vector<pool_base>& pools) {
    return reading(plan, pools, true);
}

bool can_be_checked(const rank_info& writer, const rank_info& receiver) {
    const auto windowed = [](const rank_info& rank) {
        return std::any_of(
            rank.pages->groups.begin(), rank.pages->groups.end(),
            [](const layer_group& group) { return group.live_token_window.has_value(); });
    };
    return must_have_all_blocks(writer.layout, receiver.layout)
           && !(windowed(writer) && windowed(receiver));
}

caf::expected<copy_plan> plan_of_piece(const rank_info& writer, token_range tokens,
                                       layer_range layers, bool last, const rank_info& receiver,
                                       const kv_slice& target, plan_cache& plans) {
    kv_slice source{tokens, target.prompt_tokens, {}, last, layers};
    for (const auto& group : writer.pages->groups) {
        const auto slots =
            group.tokens_per_slot
                ? (target.prompt_tokens + *group.tokens_per_slot - 1) / *group.tokens_per_slot
                : 1;
        source.groups.push_back({0, std::vector<std::int32_t>(slots, 0)});
    }
    return make_plan(writer, source, receiver, target, plans);
}

} // namespace kvferry
