// SPDX-License-Identifier: Apache-2.0
// Shards and replicas of heads.
#include "transport/planner/layout/head_split.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

caf::error split_heads(const tp_group& group, std::uint32_t heads, role_layout& layout) {
    const auto shards = std::min(group.size, heads);
    if (shards == 0 || group.size % shards != 0 || heads % shards != 0)
        return make_error(errc::invalid_argument,
                          "kv_heads {} cannot be split evenly over {} ranks (tp_size)", heads,
                          group.size);
    layout.num_shards = shards;
    layout.num_replicas = group.size / shards;
    layout.shard_index = group.rank / layout.num_replicas;
    layout.replica_index = group.rank % layout.num_replicas;
    return {};
}

} // namespace kvferry
