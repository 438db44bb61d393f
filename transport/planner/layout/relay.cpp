// SPDX-License-Identifier: Apache-2.0
// Replicas by comparison of page tables, and the choice among them.
#include "transport/planner/layout/relay.hpp"

#include "transport/planner/layout/topology.hpp"

#include <algorithm>

namespace kvferry {

namespace {

/// splitmix64: neighbouring numbers are spread.
std::uint64_t spread(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

bool replica_shard(role_layout a, const role_layout& b) {
    a.replica_index = b.replica_index;
    return a == b;
}

bool replica_views(const layer_group& a, const layer_group& b) {
    return std::equal(a.views.begin(), a.views.end(), b.views.begin(), b.views.end(),
                      [](const pool_view& x, const pool_view& y) {
                          return x.pool == y.pool && x.roles == y.roles && x.entries == y.entries
                                 && replica_shard(x.layout, y.layout);
                      });
}

bool replica_group(const layer_group& a, const layer_group& b) {
    return a.tokens_per_slot && a.layers == b.layers && a.tokens_per_slot == b.tokens_per_slot
           && a.live_token_window == b.live_token_window && replica_views(a, b);
}

bool replica_pool(const physical_pool& a, const physical_pool& b) {
    return a.slot_bytes == b.slot_bytes && a.slot_stride_bytes == b.slot_stride_bytes;
}

bool takes_part(const rank_info& rank) {
    return (rank.capabilities & capability::relays) != 0;
}

bool lets_relay(const rank_info& rank) {
    return (rank.capabilities & capability::relayed_requests) != 0;
}

} // namespace

bool are_replicas(const rank_info& a, const rank_info& b) {
    if (!a.pages || !b.pages || a.layout.pp_rank != b.layout.pp_rank
        || a.layout.cp_rank != b.layout.cp_rank || dp_rank(a.layout) != dp_rank(b.layout))
        return false;
    const auto& x = *a.pages;
    const auto& y = *b.pages;
    return std::equal(x.groups.begin(), x.groups.end(), y.groups.begin(), y.groups.end(),
                      replica_group)
           && std::equal(x.pools.begin(), x.pools.end(), y.pools.begin(), y.pools.end(),
                         replica_pool);
}

std::vector<rank_id> relay_group_of(const rank_info& self, const std::vector<rank_info>& own,
                                    const std::vector<rank_info>& context) {
    const auto far_and_willing = [&self](const rank_info& rank) {
        return rank.machine != self.machine && lets_relay(rank);
    };
    if (self.machine.empty() || !takes_part(self)
        || !std::all_of(context.begin(), context.end(), far_and_willing))
        return {};
    std::vector<rank_id> result;
    for (const auto& other : own)
        if (other.machine == self.machine && takes_part(other) && are_replicas(self, other))
            result.push_back(other.rank);
    std::sort(result.begin(), result.end());
    if (result.size() < 2)
        return {};
    return result;
}

rank_id landing_rank(const std::vector<rank_id>& group, rid request) {
    return group[spread(request.value) % group.size()];
}

std::uint64_t relay_digest(const std::vector<rank_info>& context) {
    std::uint64_t result = context.size();
    for (const auto& rank : context)
        result = spread(result ^ rank.incarnation.value);
    return std::max<std::uint64_t>(result, 1);
}

rank_info in_place_of(const rank_info& replica, const rank_info& holder) {
    auto result = holder;
    result.layout = replica.layout;
    result.rank = replica.rank;
    for (std::size_t group = 0; group < result.pages->groups.size(); ++group)
        for (std::size_t view = 0; view < result.pages->groups[group].views.size(); ++view)
            result.pages->groups[group].views[view].layout =
                replica.pages->groups[group].views[view].layout;
    return result;
}

} // namespace kvferry
