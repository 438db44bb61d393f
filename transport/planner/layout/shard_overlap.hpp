// SPDX-License-Identifier: Apache-2.0
// How the shards, replicas and blocks of two ranks meet: numbers only.
#pragma once

#include "messages/values/page_table.hpp"

#include <cstdint>

namespace kvferry {

/// What two shards of one tensor have in common, counted in parts. Both shards are whole numbers of
/// parts; when one shard count divides the other, a part is a shard of the finer side.
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

/// Whether the writer sends its shard to a receiver whose shard meets it. Among the ranks that hold
/// the writer's shard and whose place among all ranks meets the receiver's, exactly one is elected.
/// They take turns by the receiver's DP rank, which spreads the load.
bool is_elected(const role_layout& source, const role_layout& target,
                std::uint32_t receiver_dp_rank);

/// Receivers with the same shard whose DP ranks differ by a multiple of this get theirs from the
/// same ranks. Takes any numbers; at least 1.
std::uint64_t election_period(const role_layout& source, const role_layout& target);

/// Number of pieces into which blocks of two sizes cut each other until both begin a block at the
/// same token again; 1 when the sizes are equal.
std::uint64_t block_pieces(std::uint32_t source_tokens, std::uint32_t target_tokens);

/// Pairs with more pieces are refused: enough for a page of one token against a block of 1024.
inline constexpr std::uint64_t block_pieces_max = 1024;

} // namespace kvferry
