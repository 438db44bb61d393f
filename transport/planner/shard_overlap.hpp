// SPDX-License-Identifier: Apache-2.0
// How the shards, replicas and blocks of two ranks meet: numbers only.
#pragma once

#include "messages/values/page_table.hpp"

#include <cstdint>

namespace kvferry {

/// What two shards of one tensor have in common, counted in parts of which both shards are a whole
/// number: the finer side's shards when one count divides the other.
struct shard_overlap {
    /// Parts of a whole shard.
    std::uint64_t source_parts = 1;
    std::uint64_t target_parts = 1;
    /// Common parts, and where they begin in each shard; 0: the shards have nothing in common.
    std::uint64_t parts = 0;
    std::uint64_t source_first = 0;
    std::uint64_t target_first = 0;
};

shard_overlap overlap_of(const role_layout& source, const role_layout& target);

/// Whether the writer sends its shard to a receiver whose shard meets it: of the ranks that hold
/// the writer's shard and whose place among all ranks meets the receiver's, one does. They take
/// turns by the receiver's DP rank, which spreads the load over them.
bool is_elected(const role_layout& source, const role_layout& target,
                std::uint32_t receiver_dp_rank);

/// Pieces into which blocks of two sizes cut each other up to where both begin a block anew: one
/// when they are equal.
std::uint64_t block_pieces(std::uint32_t source_tokens, std::uint32_t target_tokens);

/// Most pieces that are mapped: a page of one token against a block of 1024.
inline constexpr std::uint64_t block_pieces_max = 1024;

} // namespace kvferry
