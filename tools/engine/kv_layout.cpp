// SPDX-License-Identifier: Apache-2.0
// Cuts a KV cache into the shards of an instance's ranks.
#include "tools/engine/kv_layout.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace kvferry::engine {
namespace {

void check(const kv_geometry& geometry, parallelism ranks) {
    if (geometry.layers == 0 || geometry.kv_heads == 0 || geometry.head_dim == 0
        || geometry.tokens_per_block == 0)
        throw std::invalid_argument(
            "KV cache: layers " + std::to_string(geometry.layers) + ", kv_heads "
            + std::to_string(geometry.kv_heads) + ", head_dim " + std::to_string(geometry.head_dim)
            + ", tokens_per_block " + std::to_string(geometry.tokens_per_block)
            + " must all be at least 1");
    if (ranks.tp_size == 0 || ranks.pp_size == 0)
        throw std::invalid_argument("KV cache: tp_size " + std::to_string(ranks.tp_size)
                                    + " and pp_size " + std::to_string(ranks.pp_size)
                                    + " must both be at least 1");
    if (ranks.pp_size > geometry.layers)
        throw std::invalid_argument("KV cache: pp_size " + std::to_string(ranks.pp_size)
                                    + " leaves a stage without a layer ("
                                    + std::to_string(geometry.layers) + " layers)");
    const auto [small, large] = std::minmax(ranks.tp_size, geometry.kv_heads);
    if (!ranks.attention_dp && large % small != 0)
        throw std::invalid_argument(
            "KV cache: tp_size " + std::to_string(ranks.tp_size) + " neither divides kv_heads "
            + std::to_string(geometry.kv_heads) + " nor is a multiple of it");
}

} // namespace

kv_geometry geometry_of(const model_config& config, std::size_t tokens_per_block) {
    return {config.layers,    config.kv_heads, config.head_dim,
            tokens_per_block, config.window,   config.latent};
}

void kv_shard::attach(std::span<std::byte> memory) {
    if (reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(float) != 0)
        throw std::invalid_argument("KV pool: the memory is not aligned for floats");
    if (slot_bytes == 0 || memory.size() < slot_bytes)
        throw std::invalid_argument("KV pool: " + std::to_string(memory.size())
                                    + " bytes do not hold one slot of "
                                    + std::to_string(slot_bytes));
    pool = memory;
    slot_count = memory.size() / slot_bytes;
}

std::vector<kv_shard> split(const kv_geometry& geometry, parallelism ranks) {
    check(geometry, ranks);
    const std::size_t sharers = ranks.attention_dp ? 1 : ranks.tp_size;
    const std::size_t head_count = std::max<std::size_t>(1, geometry.kv_heads / sharers);
    const std::size_t replicas = std::max<std::size_t>(1, sharers / geometry.kv_heads);
    std::vector<kv_shard> shards;
    std::size_t first_layer = 0;
    for (std::size_t stage = 0; stage < ranks.pp_size; ++stage) {
        const std::size_t extra = stage < geometry.layers % ranks.pp_size ? 1 : 0;
        const std::size_t layer_count = geometry.layers / ranks.pp_size + extra;
        for (std::size_t t = 0; t < ranks.tp_size; ++t) {
            kv_shard shard;
            shard.first_layer = first_layer;
            shard.layer_count = layer_count;
            shard.first_head = ranks.attention_dp ? 0 : t / replicas * head_count;
            shard.head_count = head_count;
            shard.slot_bytes = layer_count * geometry.kinds() * head_count * geometry.head_floats()
                               * sizeof(float);
            shards.push_back(shard);
        }
        first_layer += layer_count;
    }
    return shards;
}

} // namespace kvferry::engine
