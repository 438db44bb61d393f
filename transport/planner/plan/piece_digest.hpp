// SPDX-License-Identifier: Apache-2.0
// Digests of the bytes that one piece moved, for receivers that verify them: the writer digests
// what its plan reads, the receiver what the same plan has written.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/plan/plan_cache.hpp"
#include "transport/planner/plan/word_sums.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// For ranks of protocol 6: XXH3 of the bytes in the plan's order. `pools` are host memory at
/// addresses of this process.
std::uint64_t digest_of_sources(const copy_plan&, const std::vector<pool_base>& pools);
std::uint64_t digest_of_targets(const copy_plan&, const std::vector<pool_base>& pools);

/// The same as sums by position.
plan_digest sums_of_sources(const copy_plan&, const std::vector<pool_base>& pools);
plan_digest sums_of_targets(const copy_plan&, const std::vector<pool_base>& pools);

/// Jobs that read what a plan reads, or what it writes, for a digest of it by whoever can read that
/// memory (start_copy::read_only).
copy_job reading_sources(const copy_plan&, const std::vector<pool_base>& pools);
copy_job reading_targets(const copy_plan&, const std::vector<pool_base>& pools);

/// Whether the receiver can work out by itself which blocks a piece of this writer contains. It
/// cannot when the writer is one of several CP ranks, or may have dropped blocks that the receiver
/// lists; then no digest is requested.
bool can_be_checked(const rank_info& writer, const rank_info& receiver);

/// The plan of a piece as its receiver computes it, without the writer's slot numbers (all are 0):
/// the same stretches in the same order. `tokens`, `layers` and `last` are those of the writer's
/// slice. Errors are those of make_plan.
caf::expected<copy_plan> plan_of_piece(const rank_info& writer, token_range tokens,
                                       layer_range layers, bool last, const rank_info& receiver,
                                       const kv_slice& target, plan_cache&);

} // namespace kvferry
