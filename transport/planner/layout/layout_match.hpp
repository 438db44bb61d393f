// SPDX-License-Identifier: Apache-2.0
// Which buffers of two page tables hold parts of the same tensors.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// The same buffer of the same global layer on both sides.
struct entry_pair {
    buffer_entry source;
    buffer_entry target;
    /// Index of the target among the buffers of its layer.
    std::uint32_t target_buffer = 0;
};

/// Two views with a role and a layer in common. Indexes point into the page tables.
struct view_pair {
    std::uint32_t source_group = 0;
    std::uint32_t source_view = 0;
    std::uint32_t target_group = 0;
    std::uint32_t target_view = 0;
    /// In the writer's physical order.
    std::vector<entry_pair> entries;
    /// True when the two shards share heads and this writer is elected among the replicas of its
    /// shard.
    bool carries = false;
};

/// Finds every pair of views of the two ranks. A layer or role that only one side has makes no
/// pair; cohorts_of decides whether the receiver can do without it. Views with different roles
/// match when each has one buffer per role, in the order of its roles: one side may keep in two
/// pools what the other keeps in one. Anything that both sides have but that cannot be mapped is a
/// layout_mismatch with the field and both values; a rank without page table is missing_layout.
caf::expected<std::vector<view_pair>> match_layouts(const rank_info& writer,
                                                    const rank_info& receiver);

} // namespace kvferry
