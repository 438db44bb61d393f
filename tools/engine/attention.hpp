// SPDX-License-Identifier: Apache-2.0
// Causal attention of one query head, read from the pools of the ranks.
#pragma once

#include "tools/engine/kv_cache.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace kvferry::engine {

/// Whose K and V a query head reads.
struct kv_source {
    std::size_t layer = 0;
    std::size_t head = 0;    ///< a KV head
    std::size_t replica = 0; ///< of the tensor-parallel rank that would compute the query head
};

/// out = softmax(query . K / sqrt(head_dim)) V over positions 0 .. positions - 1, in that order.
/// `query` and `out` are head_dim floats; `scores` is scratch, kept by the caller for its capacity.
void attend(const kv_cache& cache, const block_table& table, const kv_source& source,
            std::size_t positions, std::span<const float> query, std::vector<float>& scores,
            std::span<float> out);

} // namespace kvferry::engine
