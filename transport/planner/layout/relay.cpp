// SPDX-License-Identifier: Apache-2.0
// Replicas by comparison of page tables, and the choice among them.
#include "transport/planner/layout/relay.hpp"

#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <map>
#include <utility>

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

bool replica_view(const pool_view& a, const pool_view& b) {
    return a.pool == b.pool && a.roles == b.roles && a.entries == b.entries
           && replica_shard(a.layout, b.layout);
}

/// Not of recurrent state.
bool same_blocks(const layer_group& a, const layer_group& b) {
    return a.tokens_per_slot && a.layers == b.layers && a.tokens_per_slot == b.tokens_per_slot
           && a.live_token_window == b.live_token_window;
}

bool replica_group(const layer_group& a, const layer_group& b) {
    return same_blocks(a, b)
           && std::equal(a.views.begin(), a.views.end(), b.views.begin(), b.views.end(),
                         replica_view);
}

bool replica_pool(const physical_pool& a, const physical_pool& b) {
    return a.slot_bytes == b.slot_bytes && a.slot_stride_bytes == b.slot_stride_bytes;
}

bool can(const rank_info& rank, std::uint64_t what) {
    return (rank.capabilities & what) != 0;
}

bool same_place(const rank_info& a, const rank_info& b) {
    return a.pages && b.pages && a.layout.pp_rank == b.layout.pp_rank
           && a.layout.cp_rank == b.layout.cp_rank && dp_rank(a.layout) == dp_rank(b.layout);
}

bool has(const page_table& pages, view_place x) {
    return x.group < pages.groups.size() && x.view < pages.groups[x.group].views.size();
}

bool share(const page_table& a, const page_table& b, view_place x) {
    if (!has(a, x) || !has(b, x))
        return false;
    const auto& first = a.groups[x.group];
    const auto& second = b.groups[x.group];
    const auto pool = first.views[x.view].pool;
    return same_blocks(first, second) && replica_view(first.views[x.view], second.views[x.view])
           && pool < a.pools.size() && pool < b.pools.size()
           && replica_pool(a.pools[pool], b.pools[pool]);
}

std::vector<view_place> views_of(const rank_info& rank) {
    std::vector<view_place> result;
    for (std::uint32_t group = 0; group < rank.pages->groups.size(); ++group)
        for (std::uint32_t view = 0; view < rank.pages->groups[group].views.size(); ++view)
            result.push_back({group, view});
    return result;
}

using ranks_on_machine = std::vector<const rank_info*>;

std::vector<rank_id> alike(const rank_info& one, const ranks_on_machine& all, auto share_it) {
    std::vector<rank_id> result;
    for (const auto* other : all)
        if (share_it(one, *other))
            result.push_back(other->rank);
    return result;
}

std::vector<shared_views> shared_as_wholes(const ranks_on_machine& all) {
    std::vector<shared_views> result;
    for (const auto* one : all) {
        auto ranks = alike(
            *one, all, [](const rank_info& a, const rank_info& b) { return are_replicas(a, b); });
        if (ranks.size() > 1 && ranks.front() == one->rank)
            result.push_back({std::move(ranks), {}});
    }
    return result;
}

std::vector<shared_views> shared_by_view(const ranks_on_machine& all) {
    std::map<std::vector<rank_id>, std::vector<view_place>> found;
    for (const auto* one : all)
        for (const auto place : views_of(*one)) {
            auto ranks = alike(*one, all, [place](const rank_info& a, const rank_info& b) {
                return same_place(a, b) && share(*a.pages, *b.pages, place);
            });
            if (ranks.size() > 1 && ranks.front() == one->rank)
                found[std::move(ranks)].push_back(place);
        }
    std::vector<shared_views> result;
    for (auto& [ranks, views] : found) {
        const auto hold_no_more = std::all_of(all.begin(), all.end(), [&](const rank_info* each) {
            return !std::binary_search(ranks.begin(), ranks.end(), each->rank)
                   || views_of(*each) == views;
        });
        result.push_back({ranks, hold_no_more ? std::vector<view_place>{} : std::move(views)});
    }
    return result;
}

} // namespace

bool shared_views::concerns(rank_id rank) const {
    return std::binary_search(ranks.begin(), ranks.end(), rank);
}

bool are_replicas(const rank_info& a, const rank_info& b, const std::vector<view_place>& views) {
    if (views.empty())
        return are_replicas(a, b);
    return same_place(a, b) && std::all_of(views.begin(), views.end(), [&](view_place x) {
               return share(*a.pages, *b.pages, x);
           });
}

bool are_replicas(const rank_info& a, const rank_info& b) {
    if (!same_place(a, b))
        return false;
    const auto& x = *a.pages;
    const auto& y = *b.pages;
    return std::equal(x.groups.begin(), x.groups.end(), y.groups.begin(), y.groups.end(),
                      replica_group)
           && std::equal(x.pools.begin(), x.pools.end(), y.pools.begin(), y.pools.end(),
                         replica_pool);
}

std::vector<shared_views> shared_among(const rank_info& self, const std::vector<rank_info>& own,
                                       const std::vector<rank_info>& context) {
    const auto far_and_willing = [&self](const rank_info& rank) {
        return rank.machine != self.machine && can(rank, capability::relayed_requests);
    };
    if (self.machine.empty() || !can(self, capability::relays)
        || !std::all_of(context.begin(), context.end(), far_and_willing))
        return {};
    ranks_on_machine all;
    for (const auto& other : own)
        if (other.machine == self.machine && can(other, capability::relays) && other.pages
            && dp_rank(other.layout) == dp_rank(self.layout))
            all.push_back(&other);
    std::sort(all.begin(), all.end(),
              [](const rank_info* a, const rank_info* b) { return a->rank < b->rank; });
    const auto in_parts =
        std::all_of(all.begin(), all.end(),
                    [](const rank_info* each) { return can(*each, capability::parts); })
        && std::all_of(context.begin(), context.end(),
                       [](const rank_info& each) { return can(each, capability::parts); });
    return in_parts ? shared_by_view(all) : shared_as_wholes(all);
}

std::vector<view_place> views_outside(const rank_info& rank,
                                      const std::vector<shared_views>& shared) {
    auto result = views_of(rank);
    for (const auto& each : shared)
        if (each.concerns(rank.rank))
            std::erase_if(result, [&each](view_place x) {
                return each.views.empty()
                       || std::find(each.views.begin(), each.views.end(), x) != each.views.end();
            });
    return result;
}

rank_id landing_rank(const std::vector<rank_id>& group, rid request) {
    return group[spread(request.value) % group.size()];
}

rank_id landing_rank(const shared_views& part, rid request) {
    if (part.views.empty())
        return landing_rank(part.ranks, request);
    const auto first = part.views.front();
    const auto place = (std::uint64_t{first.group} << 32) | first.view;
    return landing_rank(part.ranks, rid{request.value ^ spread(place)});
}

std::uint64_t relay_digest(const std::vector<rank_info>& context) {
    std::uint64_t result = context.size();
    for (const auto& rank : context)
        result = spread(result ^ rank.incarnation.value);
    return std::max<std::uint64_t>(result, 1);
}

rank_info with_views(const rank_info& rank, const std::vector<view_place>& views) {
    auto result = rank;
    if (views.empty() || !result.pages)
        return result;
    for (auto& group : result.pages->groups)
        group.views.clear();
    for (const auto x : views)
        if (has(*rank.pages, x))
            result.pages->groups[x.group].views.push_back(
                rank.pages->groups[x.group].views[x.view]);
    return result;
}

rank_info in_place_of(const rank_info& replica, const rank_info& holder,
                      const std::vector<view_place>& views) {
    auto result = holder;
    result.layout = replica.layout;
    result.rank = replica.rank;
    for (const auto x : views_of(holder))
        if (has(*replica.pages, x))
            result.pages->groups[x.group].views[x.view].layout =
                replica.pages->groups[x.group].views[x.view].layout;
    return with_views(result, views);
}

} // namespace kvferry
