// SPDX-License-Identifier: Apache-2.0
// Block tables and the address of a row.
#include "tools/engine/kv_cache.hpp"

#include "tools/engine/random.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace kvferry::engine {
namespace {

bool same_cut(const kv_shard& a, const kv_shard& b) {
    return a.first_layer == b.first_layer && a.layer_count == b.layer_count
           && a.first_head == b.first_head && a.head_count == b.head_count
           && a.slot_bytes == b.slot_bytes;
}

} // namespace

kv_cache::kv_cache(kv_geometry geometry, parallelism ranks, std::vector<kv_shard> shards,
                   std::uint64_t seed)
    : geometry_(geometry), ranks_(ranks), shards_(std::move(shards)) {
    const auto expected = split(geometry_, ranks_);
    if (shards_.size() != expected.size())
        throw std::invalid_argument("KV cache: " + std::to_string(shards_.size())
                                    + " shards given for " + std::to_string(expected.size())
                                    + " ranks");
    splitmix64 seeds(seed);
    for (std::size_t rank = 0; rank < shards_.size(); ++rank) {
        const auto& shard = shards_[rank];
        const auto name = "rank " + std::to_string(rank);
        if (!same_cut(shard, expected[rank]))
            throw std::invalid_argument("KV cache: the shard of " + name
                                        + " does not have the layers and heads of that rank");
        if (shard.slot_count == 0 || shard.pool.size() / shard.slot_bytes < shard.slot_count)
            throw std::invalid_argument("KV pool of " + name + ": "
                                        + std::to_string(shard.pool.size()) + " bytes for "
                                        + std::to_string(shard.slot_count) + " slots of "
                                        + std::to_string(shard.slot_bytes));
        allocators_.emplace_back(name, shard.slot_count, seeds.next());
        if (rank % ranks_.tp_size == 0)
            stage_of_layer_.insert(stage_of_layer_.end(), shard.layer_count, rank / ranks_.tp_size);
    }
}

block_table kv_cache::allocate(std::size_t tokens, std::size_t dp_rank) {
    const std::size_t count = geometry_.blocks(tokens);
    for (std::size_t rank = 0; rank < allocators_.size(); ++rank) {
        if (serves(rank, dp_rank))
            allocators_[rank].require(count);
    }
    block_table table(allocators_.size());
    for (std::size_t rank = 0; rank < allocators_.size(); ++rank) {
        if (serves(rank, dp_rank))
            table[rank] = allocators_[rank].allocate(count);
    }
    return table;
}

bool kv_cache::serves(std::size_t rank, std::size_t dp_rank) const noexcept {
    return !ranks_.attention_dp || rank % ranks_.tp_size == dp_rank;
}

/// The TP rank whose table is not empty; 0 without attention DP.
std::size_t kv_cache::group_of(const block_table& table) const noexcept {
    std::size_t group = 0;
    while (ranks_.attention_dp && group + 1 < ranks_.tp_size && table[group].empty())
        ++group;
    return group;
}

void kv_cache::release(block_table& table) {
    if (!table.empty() && table.size() != allocators_.size())
        throw std::invalid_argument("KV cache: a block table of " + std::to_string(table.size())
                                    + " ranks is not from this cache");
    for (std::size_t rank = 0; rank < table.size(); ++rank)
        allocators_[rank].release(table[rank]);
    table.clear();
}

std::size_t kv_cache::replicas() const noexcept {
    return ranks_.attention_dp ? 1 : std::max<std::size_t>(1, ranks_.tp_size / geometry_.kv_heads);
}

std::span<float> kv_cache::block_rows(const block_table& table, std::size_t layer, kv_kind kind,
                                      std::size_t head, std::size_t block,
                                      std::size_t replica) const {
    const std::size_t stage = stage_of_layer_[layer];
    const std::size_t heads_per_rank = shards_.front().head_count;
    const std::size_t tp_rank =
        ranks_.attention_dp ? group_of(table) : head / heads_per_rank * replicas() + replica;
    const std::size_t rank = stage * ranks_.tp_size + tp_rank;
    const kv_shard& shard = shards_[rank];
    const std::size_t buffer = (layer - shard.first_layer) * geometry_.kinds()
                               + (geometry_.latent ? 0 : static_cast<std::size_t>(kind));
    const std::size_t run = buffer * shard.head_count + (head - shard.first_head);
    std::byte* slot = shard.pool.data() + table[rank][block] * shard.slot_bytes;
    return {reinterpret_cast<float*>(slot) + run * geometry_.head_floats(),
            geometry_.head_floats()};
}

std::span<float> kv_cache::row(const block_table& table, const kv_row& at,
                               std::size_t replica) const {
    const std::size_t block = at.token / geometry_.tokens_per_block;
    if (at.layer >= geometry_.layers || at.head >= geometry_.kv_heads || replica >= replicas()
        || table.size() != shards_.size() || block >= table[group_of(table)].size())
        throw std::invalid_argument("KV cache: no row at layer " + std::to_string(at.layer)
                                    + ", head " + std::to_string(at.head) + ", token "
                                    + std::to_string(at.token) + ", replica "
                                    + std::to_string(replica));
    const auto rows = block_rows(table, at.layer, at.kind, at.head, block, replica);
    return rows.subspan(at.token % geometry_.tokens_per_block * geometry_.head_dim,
                        geometry_.head_dim);
}

} // namespace kvferry::engine
