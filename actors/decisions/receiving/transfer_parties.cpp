// SPDX-License-Identifier: Apache-2.0
// Cohorts of every candidate group, and the bystanders outside them.
#include "actors/decisions/receiving/transfer_parties.hpp"

#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

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

std::uint32_t first_layer_of(const rank_info& rank) {
    auto result = std::numeric_limits<std::uint32_t>::max();
    if (rank.pages)
        for (const auto& group : rank.pages->groups)
            for (const auto layer : group.layers)
                result = std::min(result, layer);
    return result;
}

/// By DP group, in rank order.
std::vector<std::vector<const rank_info*>> by_group(const std::vector<rank_info>& ranks) {
    std::vector<std::vector<const rank_info*>> result(dp_size(ranks.front().layout));
    for (const auto& rank : ranks)
        result[dp_rank(rank.layout)].push_back(&rank);
    return result;
}

} // namespace

std::optional<relay_binding> relay_of(const transfer_parties& parties, const rank_info& self,
                                      const std::vector<rank_info>& own,
                                      const std::vector<rank_info>& context, rid request,
                                      aux_mode aux) {
    if (parties.replicas.empty() || parties.writers.empty())
        return std::nullopt;
    relay_binding result;
    result.of = relay_digest(context);
    const auto landing = landing_rank(parties.replicas, request);
    if (landing == self.rank)
        return result;
    const auto& holder = own[landing.value];
    auto& from = result.from.emplace();
    from.rank = landing;
    from.incarnation = holder.incarnation;
    from.kv = true;
    from.aux = aux == aux_mode::required;
    std::copy_if(parties.replicas.begin(), parties.replicas.end(),
                 std::back_inserter(from.receivers),
                 [landing](rank_id each) { return each != landing; });
    from.dp_rank = parties.writers.front().dp_rank;
    from.instance = holder.instance;
    from.first_layer = first_layer_of(holder);
    from.sibling = true;
    return result;
}

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
            binding.first_layer = first_layer_of(context[rank.value]);
            result.writers.push_back(std::move(binding));
        }
    }
    if (first == last) // else the one that runs the request is not known to all alike
        result.replicas = relay_group_of(self, own, context);
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
