// SPDX-License-Identifier: Apache-2.0
// What a peer says of its cache, and the plans that follow from it: an input is a frame of
// register_rank_info. Whatever passes the checks is planned for as writer and as receiver, and a
// plan that passes its check stays inside the regions.
#include "messages/wire/codec.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/layout_match.hpp"
#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <algorithm>

using namespace kvferry;

namespace {

constexpr std::uint64_t region_bytes_max = std::uint64_t{1} << 40;

/// Rank 0 of two, the same as in the seeds.
rank_info make_self() {
    cache_format format;
    format.layers = 4;
    format.kv_heads = 4;
    format.head_dim = 8;
    format.tokens_per_block = 4;
    rank_info self;
    self.instance = "self";
    self.world_size = 2;
    self.layout.tp_size = 2;
    self.layout.layers_per_stage = {4};
    self.pages = *build_page_table(format, self.layout, {8, 0, 0});
    return self;
}

/// A prompt in the first slots of every group.
kv_slice make_slice(const rank_info& rank) {
    kv_slice slice{{0, 16}, 16, {}, true};
    slice.groups.assign(rank.pages->groups.size(), block_list{0, {0, 1, 2, 3}});
    return slice;
}

/// Regions as large as a peer may claim. Their memory is never read.
std::vector<memory_region> regions_of(const rank_info& rank) {
    std::uint32_t count = 0;
    for (const auto& pool : rank.pages->pools)
        count = std::max(count, std::min(pool.region, 1023u) + 1);
    const memory_region large{0, region_bytes_max, memory_kind::host_shared, {}};
    return std::vector<memory_region>(count, large);
}

void check_inside(const copy_plan& plan, const rank_info& writer, const rank_info& receiver) {
    const auto bases = [](const rank_info& rank) {
        std::vector<pool_base> result;
        for (const auto& pool : rank.pages->pools)
            result.push_back({pool.region_offset_bytes, pool.slot_stride_bytes, pool.region});
        return result;
    };
    const auto inside = [](std::uint64_t address, std::uint64_t bytes) {
        return address <= region_bytes_max && bytes <= region_bytes_max - address;
    };
    if (plan.fragments > 1 << 16)
        return; // too slow
    std::uint64_t sum = 0;
    expand(plan, bases(writer), bases(receiver),
           [&](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
               fuzz::require(inside(from, bytes), "every byte read lies in a region");
               fuzz::require(inside(to, bytes), "every byte written lies in a region");
               sum += bytes;
           });
    fuzz::require(sum == plan.bytes, "a plan's bytes are those of its stretches");
}

void transfer(const rank_info& writer, const rank_info& receiver) {
    (void)should_send_kv(writer, receiver);
    (void)should_send_aux(writer, receiver);
    (void)cohorts_of(receiver, {writer}, 0);
    plan_cache plans;
    const auto plan = make_plan(writer, make_slice(writer), receiver, make_slice(receiver), plans);
    if (plan
        && !check_plan(*plan, *writer.pages, regions_of(writer), *receiver.pages,
                       regions_of(receiver)))
        check_inside(*plan, writer, receiver);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    static const auto self = make_self();
    const auto message = decode(fuzz::view(data, bytes), std::size_t{1} << 16);
    const auto* said = message ? std::get_if<register_rank_info>(&*message) : nullptr;
    // The order in which a link looks at an introduction.
    if (!said || check_parallelism(said->info) || !said->info.pages || check_page_table(said->info))
        return 0;
    if (!match_layouts(self, said->info))
        return 0;
    transfer(self, said->info);
    transfer(said->info, self);
    return 0;
}
