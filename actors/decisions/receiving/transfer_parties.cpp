// SPDX-License-Identifier: Apache-2.0
// Cohorts of every candidate group, and the bystanders outside them.
#include "actors/decisions/receiving/transfer_parties.hpp"

#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>

namespace kvferry {

namespace {

/// The ranks of the own DP group.
std::vector<rank_info> group_of(const rank_info& self, const std::vector<rank_info>& own) {
    std::vector<rank_info> result;
    std::copy_if(own.begin(), own.end(), std::back_inserter(result), [&self](const auto& other) {
        return dp_rank(other.layout) == dp_rank(self.layout);
    });
    return result;
}

bool is_first(const rank_info& self, const std::vector<rank_info>& group) {
    return std::none_of(group.begin(), group.end(),
                        [&self](const rank_info& other) { return other.rank < self.rank; });
}

/// Global ids of layers: the lowest, and behind the highest.
layer_range layers_of(const rank_info& rank) {
    layer_range result{std::numeric_limits<std::uint32_t>::max(), 0};
    if (rank.pages)
        for (const auto& group : rank.pages->groups)
            for (const auto layer : group.layers) {
                result.begin = std::min(result.begin, layer);
                result.end = std::max(result.end, layer + 1);
            }
    return result;
}

/// Then the same blocks are whole on both of them when a piece has arrived.
bool has_blocks_of_one_size(const rank_info& a, const rank_info& b) {
    std::set<std::uint32_t> sizes;
    for (const auto* rank : {&a, &b})
        if (rank->pages)
            for (const auto& group : rank->pages->groups)
                if (group.tokens_per_slot)
                    sizes.insert(*group.tokens_per_slot);
    return sizes.size() == 1;
}

/// By DP group, in rank order.
std::vector<std::vector<const rank_info*>> by_group(const std::vector<rank_info>& ranks) {
    std::vector<std::vector<const rank_info*>> result(dp_size(ranks.front().layout));
    for (const auto& rank : ranks)
        result[dp_rank(rank.layout)].push_back(&rank);
    return result;
}

/// Of the context ranks that write to `self`, those that write something into these views.
std::vector<rank_id> bringing(const std::vector<view_place>& views, const transfer_parties& parties,
                              const rank_info& self, const std::vector<rank_info>& context) {
    std::vector<rank_id> result;
    const auto wanting = with_views(self, views);
    for (const auto& each : parties.writers)
        if (each.kv && should_send_kv(context[each.rank.value], wanting))
            result.push_back(each.rank);
    return result;
}

void find_shared(transfer_parties& result, const rank_info& self, const std::vector<rank_info>& own,
                 const std::vector<rank_info>& context) {
    const auto shared = shared_among(self, own, context);
    for (const auto& what : shared) {
        auto brought_by = what.concerns(self.rank) ? bringing(what.views, result, self, context)
                                                   : std::vector<rank_id>{};
        result.shared.push_back({what, std::move(brought_by)});
    }
    result.own_views = self.pages ? views_outside(self, shared) : std::vector<view_place>{};
    if (!result.own_views.empty())
        result.own_brought_by = bringing(result.own_views, result, self, context);
}

} // namespace

caf::expected<transfer_parties> parties_of(const rank_info& self, const std::vector<rank_info>& own,
                                           const std::vector<rank_info>& context,
                                           std::optional<std::uint32_t> context_dp_rank,
                                           aux_mode aux, allow_missing allowed) {
    const auto with_aux = aux == aux_mode::required;
    const auto first = context_dp_rank.value_or(0);
    const auto last =
        context_dp_rank || context.empty() ? first : dp_size(context.front().layout) - 1;
    auto found = cohorts_of_groups(self, context, first, last, allowed);
    if (!found)
        return std::move(found.error());
    const auto siblings = group_of(self, own);
    const auto ask = [&](const rank_info& rank) {
        return receivers_of(rank, siblings, dp_rank(self.layout), with_aux);
    };
    transfer_parties result;
    result.layers_skipped = found->front().layers_skipped; // the same in every group
    result.roles_skipped = found->front().roles_skipped;
    for (auto group = first; group <= last; ++group) {
        const auto& chosen = (*found)[group - first];
        std::map<rank_id, writer_binding> bindings;
        for (auto rank : chosen.kv)
            bindings[rank].kv = true;
        if (with_aux)
            for (auto rank : chosen.aux)
                bindings[rank].aux = true;
        for (auto& [rank, binding] : bindings) {
            binding.rank = rank;
            binding.incarnation = context[rank.value].incarnation;
            binding.dp_rank = group;
            binding.instance = context[rank.value].instance;
            binding.receivers = ask(context[rank.value]);
            const auto layers = layers_of(context[rank.value]);
            binding.first_layer = layers.begin;
            binding.layers_end = layers.end;
            binding.tells_extents = (context[rank.value].capabilities & capability::parts) != 0
                                    && has_blocks_of_one_size(context[rank.value], self);
            result.writers.push_back(std::move(binding));
        }
    }
    if (first == last) // else the one that runs the request is not known to all alike
        find_shared(result, self, own, context);
    if (!is_first(self, siblings))
        return result;
    const auto groups = by_group(context);
    for (auto group = first; group <= last; ++group)
        for (const auto* rank : groups[group])
            if (ask(*rank).empty())
                result.bystanders[group].push_back(rank->rank);
    return result;
}

} // namespace kvferry
