// SPDX-License-Identifier: Apache-2.0
// Caches of which some ranks hold a part alike and a part of their own, on machines of their own.
#pragma once

#include "messages/values/rank_info.hpp"
#include "tests/support/planner_ranks.hpp"

#include <string>
#include <vector>

namespace kvferry::testing {

/// Behind everything else in each slot of pool 0: a latent for each layer, the same on all ranks.
inline std::vector<rank_info> with_latents(std::vector<rank_info> ranks) {
    constexpr std::uint64_t latent_bytes = 64;
    for (auto& rank : ranks) {
        auto& group = rank.pages->groups[0];
        auto& pool = rank.pages->pools[0];
        pool_view latent;
        latent.roles = {"latent"};
        latent.layout.kind = mapper_kind::replicated;
        latent.layout.num_replicas = rank.layout.tp_size;
        latent.layout.replica_index = rank.layout.tp_rank;
        latent.layout.element_type = group.views[0].layout.element_type;
        latent.layout.element_shape = {8};
        for (std::uint32_t layer = 0; layer < group.layers.size(); ++layer)
            latent.entries.push_back({layer, pool.slot_bytes + layer * latent_bytes, latent_bytes});
        pool.slot_bytes += group.layers.size() * latent_bytes;
        pool.slot_stride_bytes = pool.slot_bytes;
        group.views.push_back(std::move(latent));
    }
    return ranks;
}

/// Four layers of two heads, or of one latent.
inline cache_format small_format(attention_kind kind) {
    cache_format result;
    result.layers = 4;
    result.kv_heads = 2;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    result.kind = kind;
    return result;
}

inline constexpr view_place heads{0, 0};
inline constexpr view_place latent{0, 1};

/// They hand on, in parts too.
inline std::vector<rank_info> relaying_on(std::vector<rank_info> ranks,
                                          const std::string& machine) {
    for (auto& rank : ranks) {
        rank.machine = machine;
        rank.capabilities = capability::optional_messages | capability::relayed_requests
                            | capability::relays | capability::parts;
    }
    return ranks;
}

} // namespace kvferry::testing
