// SPDX-License-Identifier: Apache-2.0
// What planning needs to know of a pair of ranks: templates, and the block lists they are applied
// to.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/layout/layout_match.hpp"
#include "transport/planner/plan/copy_template.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace kvferry {

/// Tokens that lie in one block on each side. The two block sizes cut each other in a repeating
/// pattern: `n` periods later the piece lies in block source_block + n * source_period, and
/// likewise for the target.
struct block_piece {
    std::uint32_t source_block = 0;
    std::uint32_t target_block = 0;
    token_cut cut;
    std::shared_ptr<const copy_template> layout;
};

/// Everything that goes from one pool to one pool with the same two block lists.
struct part_layout {
    std::uint32_t source_group = 0;
    std::uint32_t target_group = 0;
    std::uint32_t source_pool = 0;
    std::uint32_t target_pool = 0;
    /// nullopt on both sides: the group has one slot per request.
    std::optional<std::uint32_t> source_tokens;
    std::optional<std::uint32_t> target_tokens;
    /// Blocks until both sides begin a block at the same token again; 1 and 1 for equal sizes.
    std::uint32_t source_period = 1;
    std::uint32_t target_period = 1;
    /// One period; a single piece for equal sizes and for state.
    std::vector<block_piece> pieces;
    std::vector<view_pair> views;
    /// Global ids of the layers in it, ascending.
    std::vector<std::uint32_t> layers;
};

/// What a writer sends to a receiver; no parts when it sends nothing.
using pair_layout = std::vector<part_layout>;

/// Computes a pair's layout. layout_mismatch, missing_layout, or plan_invalid when the receiver's
/// own views overlap.
caf::expected<pair_layout> make_pair_layout(const rank_info& writer, const rank_info& receiver);

/// The part without the layers outside of `wanted`; its templates are still those of all.
part_layout only(const part_layout&, const page_table& source, const layer_range& wanted);

/// The template of a part for any range of tokens inside one slot of each side. The page tables
/// must be those that the part was made from.
caf::expected<copy_template> make_template(const part_layout&, const page_table& source,
                                           const page_table& target, const token_cut&);

} // namespace kvferry
