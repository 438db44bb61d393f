// SPDX-License-Identifier: Apache-2.0
// Which heads a rank holds.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/page_table.hpp"
#include "transport/planner/layout/topology.hpp"

#include <cstdint>

namespace kvferry {

/// Sets shard and replica of one rank of `group` with `heads` heads. There are as many shards as
/// ranks or heads, whichever is fewer; neighbouring ranks hold replicas of one shard.
/// invalid_argument when the heads cannot be split evenly.
caf::error split_heads(const tp_group& group, std::uint32_t heads, role_layout&);

} // namespace kvferry
