// SPDX-License-Identifier: Apache-2.0
// Cohorts of every candidate group, and the bystanders outside them.
#include "actors/generation/transfer_parties.hpp"

#include "transport/planner/cohorts.hpp"
#include "transport/planner/topology.hpp"

#include <algorithm>

namespace kvferry {

namespace {

bool is_first_of_its_group(const rank_info& self, const std::vector<rank_info>& own) {
    return std::none_of(own.begin(), own.end(), [&self](const rank_info& other) {
        return dp_rank(other.layout) == dp_rank(self.layout) && other.rank < self.rank;
    });
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
    transfer_parties result;
    for (auto group = first; group <= last; ++group) {
        auto found = cohorts_of(self, context, group, allowed);
        if (!found)
            return std::move(found.error());
        result.layers_skipped = std::move(found->layers_skipped); // the same in every group
        result.roles_skipped = std::move(found->roles_skipped);
        std::map<rank_id, writer_binding> bindings;
        for (auto rank : found->kv)
            bindings[rank].kv = true;
        if (with_aux)
            for (auto rank : found->aux)
                bindings[rank].aux = true;
        for (auto& [rank, binding] : bindings) {
            binding.rank = rank;
            binding.incarnation = context[rank.value].incarnation;
            binding.dp_rank = group;
            binding.instance = context[rank.value].instance;
            binding.receivers =
                receivers_of(context[rank.value], own, dp_rank(self.layout), with_aux);
            result.writers.push_back(std::move(binding));
        }
        if (!is_first_of_its_group(self, own))
            continue;
        for (const auto& rank : context)
            if (dp_rank(rank.layout) == group
                && receivers_of(rank, own, dp_rank(self.layout), with_aux).empty())
                result.bystanders[group].push_back(rank.rank);
    }
    return result;
}

} // namespace kvferry
