// SPDX-License-Identifier: Apache-2.0
// Ranks one by one, each with its page table.
#include "tools/plan/instances.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/page_table/tensor_pages.hpp"

#include <algorithm>
#include <set>

namespace kvferry::tools {

namespace {

/// Pools of the default format; what is planned does not depend on it.
constexpr std::uint32_t slots_assumed = 1u << 20;

rank_info rank_at(const std::string& name, const instance_split& split, std::uint32_t index) {
    rank_info rank;
    rank.instance = name;
    rank.rank = rank_id{index};
    rank.world_size = split.tp * split.pp * split.cp;
    rank.layout = {split.tp,
                   index / split.cp % split.tp,
                   split.pp,
                   index / split.cp / split.tp,
                   split.cp,
                   index % split.cp,
                   split.attention_dp != 0,
                   split.layers_per_stage,
                   std::max(split.attention_dp, 1u)};
    return rank;
}

/// Groups without gaps, in the same order.
void close_ranks(std::vector<kv_tensor>& tensors) {
    std::set<std::uint32_t> groups;
    for (const auto& x : tensors)
        groups.insert(x.group);
    for (auto& x : tensors)
        x.group = static_cast<std::uint32_t>(std::distance(groups.begin(), groups.find(x.group)));
}

/// Where a tensor lies decides nothing between ranks; only those that share memory have addresses.
caf::error lay_out(std::vector<kv_tensor>& tensors) {
    std::uint64_t next = 4096;
    for (bool with_address : {true, false})
        for (auto& x : tensors) {
            if ((x.address != 0) != with_address)
                continue;
            if (!with_address)
                x.address = next;
            auto extent = extents_of({x});
            if (!extent)
                return std::move(extent.error());
            const auto end = extent->front().address + extent->front().bytes;
            next = std::max(next, (end + 4095) / 4096 * 4096);
        }
    return {};
}

} // namespace

caf::expected<std::uint32_t> ranks_in(const instance_split& split, const std::string& option) {
    std::uint64_t ranks = 1;
    for (std::uint64_t size : {split.tp, split.pp, split.cp}) {
        ranks *= size;
        if (ranks == 0 || ranks > plan_ranks_max)
            return make_error(errc::invalid_argument,
                              "{}: tp={}, pp={}, cp={}: their product must be from 1 to {}", option,
                              split.tp, split.pp, split.cp, plan_ranks_max);
    }
    return static_cast<std::uint32_t>(ranks);
}

std::vector<std::uint32_t> even_stages(std::uint32_t layers, std::uint32_t pp) {
    std::vector<std::uint32_t> result;
    for (std::uint32_t stage = 0; stage < pp; ++stage)
        result.push_back(layers / pp + (stage < layers % pp ? 1 : 0));
    return result;
}

caf::expected<std::vector<rank_info>> ranks_of(const std::string& name, const instance_split& split,
                                               const cache_format& format) {
    std::vector<rank_info> result;
    auto own = format;
    own.layers = split.layers;
    own.first_layer = split.first_layer;
    for (std::uint32_t index = 0; index < split.tp * split.pp * split.cp; ++index) {
        auto rank = rank_at(name, split, index);
        auto pages = build_page_table(own, rank.layout, {slots_assumed, 0, 0});
        if (!pages)
            return add_context(pages.error(), name);
        rank.pages = std::move(*pages);
        result.push_back(std::move(rank));
    }
    return result;
}

caf::expected<std::vector<rank_info>> ranks_of(const std::string& name, const instance_split& split,
                                               const tensors_of_rank& tensors_at) {
    std::vector<rank_info> result;
    for (std::uint32_t index = 0; index < split.tp * split.pp * split.cp; ++index) {
        auto rank = rank_at(name, split, index);
        const auto fail = [&rank](const caf::error& error) {
            return add_context(error, describe(rank));
        };
        auto tensors = tensors_at(rank.layout);
        if (!tensors)
            return fail(tensors.error());
        if (tensors->empty()) {
            rank.pages.emplace(); // a stage without any cache
            result.push_back(std::move(rank));
            continue;
        }
        close_ranks(*tensors);
        if (auto error = lay_out(*tensors))
            return fail(error);
        auto regions = extents_of(*tensors);
        if (!regions)
            return fail(regions.error());
        auto pages = build_page_table(*tensors, rank.layout, *regions);
        if (!pages)
            return fail(pages.error());
        rank.pages = std::move(*pages);
        result.push_back(std::move(rank));
    }
    return result;
}

} // namespace kvferry::tools
