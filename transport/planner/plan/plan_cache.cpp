// SPDX-License-Identifier: Apache-2.0
// The cache of templates, and which pairs are alike to it.
#include "transport/planner/plan/plan_cache.hpp"

#include "transport/planner/layout/layout_digest.hpp"
#include "transport/planner/layout/shard_overlap.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace kvferry {

namespace {

/// Pairs that are told apart without a comparison.
constexpr std::size_t seen_max = 1024;

/// The layout of a rank as far as templates depend on it: matching goes by the layers in the page
/// table, so stages do not matter, and a DP group is as good as an instance of one TP rank.
parallelism essence_of(const parallelism& x) {
    parallelism result;
    const auto heads = heads_group(x);
    result.tp_size = heads.size;
    result.tp_rank = heads.rank;
    result.cp_size = x.cp_size;
    result.cp_rank = x.cp_rank;
    return result;
}

/// Each way in which a page table is sharded, once.
std::vector<role_layout> shardings_of(const rank_info& x) {
    std::vector<role_layout> result;
    if (!x.pages)
        return result;
    for (const auto& group : x.pages->groups)
        for (const auto& view : group.views) {
            role_layout only;
            only.num_shards = view.layout.num_shards;
            only.shard_index = view.layout.shard_index;
            only.num_replicas = view.layout.num_replicas;
            only.replica_index = view.layout.replica_index;
            if (std::find(result.begin(), result.end(), only) == result.end())
                result.push_back(only);
        }
    return result;
}

/// Replicas of the writer's shards take turns by the receiver's DP rank: this is where the receiver
/// stands in a whole round of them.
std::uint32_t turn_of(const rank_info& writer, const rank_info& receiver) {
    const auto dp = dp_rank(receiver.layout);
    if (dp == 0)
        return 0;
    std::uint64_t round = 1;
    for (const auto& source : shardings_of(writer))
        for (const auto& target : shardings_of(receiver)) {
            const auto period = election_period(source, target);
            if (round / std::gcd(round, period) > dp / period) // a round is longer than dp
                return dp;
            round = std::lcm(round, period);
        }
    return static_cast<std::uint32_t>(dp % round);
}

} // namespace

bool plan_cache::serves(const entry& x, const rank_info& writer, const parallelism& from,
                        const rank_info& receiver, const parallelism& to) {
    return x.writer.layout == from && x.receiver.layout == to
           && same_pages(x.writer.pages, writer.pages)
           && same_pages(x.receiver.pages, receiver.pages);
}

caf::expected<std::shared_ptr<const pair_layout>>
plan_cache::find_or_make(const rank_info& writer, const rank_info& receiver,
                         const std::shared_ptr<const void>& held) {
    if (!held)
        return compare_or_make(writer, receiver);
    if (const auto found = seen_.find(&receiver); found != seen_.end()) {
        const auto& [from, with, layout] = found->second;
        if (from == &writer && !with.owner_before(held) && !held.owner_before(with))
            return layout;
    }
    auto result = compare_or_make(writer, receiver);
    if (!result)
        return result;
    if (seen_.size() >= seen_max)
        seen_.clear();
    seen_.insert_or_assign(&receiver, seen_pair{&writer, held, *result});
    return result;
}

caf::expected<std::shared_ptr<const pair_layout>>
plan_cache::compare_or_make(const rank_info& writer, const rank_info& receiver) {
    for (const auto* rank : {&writer, &receiver})
        if (auto error = check_parallelism(*rank))
            return error;
    const auto from = essence_of(writer.layout);
    auto to = essence_of(receiver.layout);
    if (receiver.layout.attention_dp)
        to.pp_rank = turn_of(writer, receiver); // stages do not matter
    if (latest_ && serves(*latest_, writer, from, receiver, to)) {
        latest_->last_use = ++uses_;
        return latest_->made;
    }
    // Rotated, so that (a, b) and (b, a) are not the same.
    const auto writer_digest = layout_digest(from, writer.pages);
    const auto key = (writer_digest << 1 | writer_digest >> 63) ^ layout_digest(to, receiver.pages);
    const auto found = entries_.find(key);
    if (found != entries_.end() && serves(found->second, writer, from, receiver, to)) {
        latest_ = &found->second;
        latest_->last_use = ++uses_;
        return latest_->made;
    }
    ++misses_;
    auto made = make_pair_layout(writer, receiver);
    if (!made)
        return std::move(made.error());
    auto shared = std::make_shared<const pair_layout>(std::move(*made));
    if (entries_max_ == 0)
        return shared;
    latest_ = nullptr; // it may be the one that goes
    if (found == entries_.end() && entries_.size() >= entries_max_)
        entries_.erase(
            std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
                return a.second.last_use < b.second.last_use;
            }));
    auto& kept = entries_
                     .insert_or_assign(
                         key, entry{{from, writer.pages}, {to, receiver.pages}, shared, ++uses_})
                     .first->second;
    latest_ = &kept;
    return shared;
}

} // namespace kvferry
