// SPDX-License-Identifier: Apache-2.0
// How one side's KV cache is cut into shards, one per rank, and how bytes lie in a slot.
#pragma once

#include "tools/engine/config.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace kvferry::engine {

enum class kv_kind : std::size_t { key = 0, value = 1 };

/// Ranks of one instance; rank = pp_rank * tp_size + tp_rank.
struct parallelism {
    std::size_t tp_size = 1;
    std::size_t pp_size = 1;
    /// Every TP rank holds all heads, and runs requests of its own.
    bool attention_dp = false;

    std::size_t ranks() const noexcept { return tp_size * pp_size; }
};

/// The whole model's KV cache, before it is cut. Elements are floats.
struct kv_geometry {
    std::size_t layers = 0;
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t tokens_per_block = 0;
    std::size_t window = 0; ///< see model_config
    bool latent = false;

    /// Buffers of a layer: K and V, or the latent alone.
    std::size_t kinds() const noexcept { return latent ? 1 : 2; }

    /// The first position that the token behind `tokens` of them attends to.
    std::size_t first_live(std::size_t tokens) const noexcept {
        return window == 0 || tokens + 1 <= window ? 0 : tokens + 1 - window;
    }

    /// Blocks that hold `tokens` positions.
    std::size_t blocks(std::size_t tokens) const noexcept {
        return (tokens + tokens_per_block - 1) / tokens_per_block;
    }

    /// Floats of one head of K or of V in one block: [token][dim].
    std::size_t head_floats() const noexcept { return tokens_per_block * head_dim; }
};

kv_geometry geometry_of(const model_config& config, std::size_t tokens_per_block);

/// What one rank holds, and the memory it lies in. A slot is [layer][K, V][head][token][dim] floats
/// (HND), or [layer][token][dim] when latent, of one block, for this rank's layers and heads; slot
/// s starts at pool + s * slot_bytes.
struct kv_shard {
    std::size_t first_layer = 0;
    std::size_t layer_count = 0;
    std::size_t first_head = 0;
    std::size_t head_count = 0;
    std::size_t slot_bytes = 0;
    std::size_t slot_count = 0;
    std::span<std::byte> pool; ///< owned by the caller, outlives every use of the shard

    /// Takes `memory` as the pool: as many slots as fit. Throws std::invalid_argument when not one
    /// fits or the memory is not aligned for floats.
    void attach(std::span<std::byte> memory);
};

/// The shards of all ranks, in rank order, without memory.
///
/// The first layers % pp_size stages hold one layer more. When tp_size exceeds kv_heads, each head
/// has tp_size / kv_heads replicas: rank t of a stage holds head t / (tp_size / kv_heads). Under
/// attention DP every rank holds all heads.
/// Throws std::invalid_argument when a size is 0, a stage would be empty or heads do not divide.
std::vector<kv_shard> split(const kv_geometry& geometry, parallelism ranks);

} // namespace kvferry::engine
