// SPDX-License-Identifier: Apache-2.0
// What ranks of a generation instance on one machine would share.
#include "tools/plan/shares.hpp"

#include "tools/plan/options.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <set>

namespace kvferry::tools {

namespace {

/// All of them on one machine, and able to.
std::vector<rank_info> together(std::vector<rank_info> ranks, const char* machine) {
    for (auto& rank : ranks) {
        rank.machine = machine;
        rank.capabilities |= capability::relays | capability::relayed_requests | capability::parts;
    }
    return ranks;
}

std::vector<std::string> roles_of(const page_table& pages, const shared_views& shared) {
    std::set<std::string> result;
    for (std::uint32_t group = 0; group < pages.groups.size(); ++group)
        for (std::uint32_t view = 0; view < pages.groups[group].views.size(); ++view) {
            const auto& roles = pages.groups[group].views[view].roles;
            const view_place here{group, view};
            if (shared.views.empty()
                || std::find(shared.views.begin(), shared.views.end(), here) != shared.views.end())
                result.insert(roles.begin(), roles.end());
        }
    return {result.begin(), result.end()};
}

} // namespace

std::vector<planned_share> shares_of(const plan_question& question) {
    const auto own = together(question.generation, "near");
    const auto context = together(question.context, "far");
    std::vector<planned_share> result;
    for (const auto& rank : own) {
        if (dp_rank(rank.layout) != question.generation_dp || !rank.pages)
            continue;
        for (const auto& each : shared_among(rank, own, context))
            if (each.ranks.front() == rank.rank)
                result.push_back({each.ranks, roles_of(*rank.pages, each)});
    }
    return result;
}

} // namespace kvferry::tools
