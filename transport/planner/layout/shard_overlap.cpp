// SPDX-License-Identifier: Apache-2.0
// Overlaps of shards, counted in parts: the least common multiple of both shard counts is a whole.
#include "transport/planner/layout/shard_overlap.hpp"

#include <algorithm>
#include <numeric>

namespace kvferry {

shard_overlap overlap_of(const role_layout& source, const role_layout& target) {
    const auto all = std::lcm(std::uint64_t{source.num_shards}, std::uint64_t{target.num_shards});
    shard_overlap result;
    result.source_parts = all / source.num_shards;
    result.target_parts = all / target.num_shards;
    const auto source_begin = source.shard_index * result.source_parts;
    const auto target_begin = target.shard_index * result.target_parts;
    const auto begin = std::max(source_begin, target_begin);
    const auto end =
        std::min(source_begin + result.source_parts, target_begin + result.target_parts);
    if (begin >= end)
        return result;
    result.parts = end - begin;
    result.source_first = begin - source_begin;
    result.target_first = begin - target_begin;
    return result;
}

std::uint64_t block_pieces(std::uint32_t source_tokens, std::uint32_t target_tokens) {
    const auto period = std::lcm(std::uint64_t{source_tokens}, std::uint64_t{target_tokens});
    return period / source_tokens + period / target_tokens - 1;
}

namespace {

/// The replicas of the source's shard that may serve the target: `count` from number `first` on,
/// counted over all ranks of the source.
struct candidates {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
};

candidates candidates_of(const role_layout& source, const role_layout& target) {
    const std::uint64_t source_ranks = std::uint64_t{source.num_shards} * source.num_replicas;
    const std::uint64_t target_ranks = std::uint64_t{target.num_shards} * target.num_replicas;
    const std::uint64_t target_rank =
        std::uint64_t{target.shard_index} * target.num_replicas + target.replica_index;
    const auto shard_first = std::uint64_t{source.shard_index} * source.num_replicas;
    const auto first = std::max(shard_first, target_rank * source_ranks / target_ranks);
    const auto last = std::min(shard_first + source.num_replicas - 1,
                               ((target_rank + 1) * source_ranks - 1) / target_ranks);
    return first <= last ? candidates{first, last - first + 1} : candidates{};
}

} // namespace

bool is_elected(const role_layout& source, const role_layout& target, std::uint32_t receiver_dp) {
    const auto [first, count] = candidates_of(source, target);
    return count != 0
           && std::uint64_t{source.shard_index} * source.num_replicas + source.replica_index
                  == first + receiver_dp % count;
}

std::uint64_t election_period(const role_layout& source, const role_layout& target) {
    for (auto number :
         {source.num_shards, source.num_replicas, target.num_shards, target.num_replicas})
        if (number == 0) // no valid layout: match_layouts says so
            return 1;
    return std::max<std::uint64_t>(candidates_of(source, target).count, 1);
}

} // namespace kvferry
