// SPDX-License-Identifier: Apache-2.0
// Which buffers of two page tables hold parts of the same tensors.
#pragma once

#include "messages/errors.hpp"
#include "messages/rank_info.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// The same buffer of the same global layer on both sides.
struct entry_pair {
    buffer_entry source;
    buffer_entry target;
};

/// Two views with the same roles and at least one common layer. Indexes point into the page tables.
struct view_pair {
    std::uint32_t source_group = 0;
    std::uint32_t source_view = 0;
    std::uint32_t target_group = 0;
    std::uint32_t target_view = 0;
    /// In the writer's physical order.
    std::vector<entry_pair> entries;
    /// The two shards share heads, and among the replicas of its shard this writer is elected.
    bool carries = false;
};

/// Every pair of views of the two ranks. A layer, or a role, that only one side has is legal and
/// makes no pair. Anything that both have but that cannot be mapped is a layout_mismatch with the
/// field and both values; a rank without page table is missing_layout.
caf::expected<std::vector<view_pair>> match_layouts(const rank_info& writer,
                                                    const rank_info& receiver);

/// How two shard counts meet: the finer side's region is a part of the coarser side's.
struct shard_split {
    /// num_shards of the finer side / num_shards of the coarser side.
    std::uint32_t ratio = 1;
    /// Which of the `ratio` parts of the coarser region the finer region is.
    std::uint32_t part = 0;
    bool target_is_finer = false;
};

/// Needs shard counts of which one divides the other (match_layouts has checked that).
shard_split split_of(const role_layout& source, const role_layout& target);

} // namespace kvferry
