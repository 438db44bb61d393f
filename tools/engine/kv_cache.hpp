// SPDX-License-Identifier: Apache-2.0
// The paged KV cache of one side: finds the floats of a position in the pools of its ranks.
#pragma once

#include "tools/engine/block_allocator.hpp"
#include "tools/engine/kv_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvferry::engine {

/// Slots of one request: [rank][block ordinal]. The same ordinal lies in another slot on every
/// rank. Under attention DP only the ranks of the request's group have any.
using block_table = std::vector<std::vector<std::uint32_t>>;

/// One K or V row of head_dim floats.
struct kv_row {
    std::size_t layer = 0;
    kv_kind kind = kv_kind::key;
    std::size_t head = 0; ///< a KV head
    std::size_t token = 0;
};

/// Owns the free lists, not the memory. For one thread.
class kv_cache {
public:
    /// `shards` are those of split(geometry, ranks), in rank order, with memory attached; else
    /// std::invalid_argument. `seed` scatters the slots, differently on every rank.
    kv_cache(kv_geometry geometry, parallelism ranks, std::vector<kv_shard> shards,
             std::uint64_t seed);

    /// Blocks for `tokens` positions on every rank (under attention DP: of group `dp_rank`), or
    /// std::runtime_error and none on any.
    block_table allocate(std::size_t tokens, std::size_t dp_rank = 0);

    /// Empties `table`. The caller knows that no transfer touches the slots any more.
    void release(block_table& table);

    /// [tokens_per_block][head_dim] floats of one block. The arguments must be in range.
    std::span<float> block_rows(const block_table& table, std::size_t layer, kv_kind kind,
                                std::size_t head, std::size_t block, std::size_t replica) const;

    /// One row. Throws std::invalid_argument when it lies outside the cache or the table.
    std::span<float> row(const block_table& table, const kv_row& at, std::size_t replica) const;

    /// Copies of each KV head within a pipeline stage; more than 1 when tp_size exceeds kv_heads.
    std::size_t replicas() const noexcept;

    const kv_geometry& geometry() const noexcept { return geometry_; }
    parallelism ranks() const noexcept { return ranks_; }
    std::span<const kv_shard> shards() const noexcept { return shards_; }
    std::size_t free_blocks(std::size_t rank) const { return allocators_.at(rank).free_count(); }

private:
    bool serves(std::size_t rank, std::size_t dp_rank) const noexcept;
    std::size_t group_of(const block_table& table) const noexcept;

    kv_geometry geometry_;
    parallelism ranks_;
    std::vector<kv_shard> shards_;
    std::vector<block_allocator> allocators_; // by rank
    std::vector<std::size_t> stage_of_layer_;
};

} // namespace kvferry::engine
