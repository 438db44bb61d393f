// SPDX-License-Identifier: Apache-2.0
// From two slices to a copy plan.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/plan/plan_cache.hpp"

namespace kvferry {

/// invalid_argument when the slice's tokens are not a part of its prompt, or it has no layers.
caf::error check_tokens(const kv_slice&);

/// What `writer` copies for `receiver` out of the slice `source`: the blocks that the target lists.
/// A block that the target leaves out is not copied. A block that only the source leaves out is an
/// error, unless the windows of both sides have dropped it or the writer is one of several CP
/// ranks. The cost grows with the number of slots, not with what a slot contains.
///
/// A block of the source travels with the slice that completes it: the slice whose tokens reach the
/// block's end, or the last one. So pieces of one block never race each other. Recurrent state
/// travels with the last slice; of a slice for some layers only, with the one that reaches the end
/// of the prompt. With equal block sizes a whole block travels even when the prompt
/// ends inside it; with different sizes it is cut at the prompt's end.
///
/// layout_mismatch, missing_layout: the pair cannot be mapped. invalid_argument: a slice does not
/// have the shape of its rank's page table, or the prompts differ. plan_invalid: the target waits
/// for a block, or a state, that the source does not list. Run check_plan before executing the
/// plan: slot numbers are not checked here.
caf::expected<copy_plan> make_plan(const rank_info& writer, const kv_slice& source,
                                   const rank_info& receiver, const kv_slice& target, plan_cache&);

/// The same with what the cache has for the two, for who plans many slices of one pair.
caf::expected<copy_plan> make_plan(const rank_info& writer, const kv_slice& source,
                                   const rank_info& receiver, const kv_slice& target,
                                   const pair_layout&);

} // namespace kvferry
