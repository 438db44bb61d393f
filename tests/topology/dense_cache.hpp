// SPDX-License-Identifier: Apache-2.0
// A dense model of a whole cache, and of what each rank of an instance must hold. It shares no
// formula with the planner: ranks, heads, layers and blocks are counted one by one.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace kvferry::testing {

using random_engine = std::mt19937_64;

/// A random number from 0 to end - 1.
std::uint32_t below(random_engine&, std::uint32_t end);

/// One role of one group of layers.
struct dense_tensor {
    std::string role;
    /// hnd: split by head (the order in the slot is the side's choice); or replicated, or
    /// sectioned.
    mapper_kind kind = mapper_kind::hnd;
    /// Heads of the whole model; 1 if not split by head.
    std::uint32_t heads = 1;
    /// Bytes of one head of one token; for state, bytes of one head.
    std::uint32_t row_bytes = 4;
    /// For sectioned tensors: heads of each section.
    std::vector<std::uint32_t> sections = {};
};

/// Layers that share their block lists.
struct dense_group {
    std::vector<std::uint32_t> layers;
    std::vector<dense_tensor> tensors;
    bool is_state = false;
    std::optional<std::uint32_t> window = {};
};

struct dense_cache {
    std::uint32_t layers = 1;
    std::vector<dense_group> groups;
};

/// The slot format of one side.
enum class slot_style {
    /// A slot holds all layers: [layer][role].
    block_major,
    /// The same, with gaps between buffers and between slots.
    gaps,
    /// A pool per layer, K and V side by side.
    pool_per_layer,
    /// One pool of slots for K, one for V.
    pool_per_role,
    /// One pool: all slots of K, then all slots of V.
    roles_apart,
};

/// How one instance is split and stores its cache.
struct dense_side {
    std::uint32_t tp = 1;
    std::uint32_t pp = 1;
    std::uint32_t cp = 1;
    bool attention_dp = false;
    std::vector<std::uint32_t> stages;
    /// TP ranks of a DP group.
    std::uint32_t attention_tp = 1;
    std::uint32_t tokens_per_block = 8;
    /// hnd or nhd.
    mapper_kind order = mapper_kind::hnd;
    slot_style style = slot_style::block_major;
    std::uint32_t slot_count = 8;
};

std::string describe(const dense_side&);

/// The place of one layer's head-split, replicated or sectioned buffer.
struct dense_place {
    std::uint32_t group = 0;
    std::uint32_t tensor = 0;
    std::uint32_t layer = 0;
    std::uint32_t pool = 0;
    std::uint64_t offset_bytes = 0;
    /// Heads that the rank holds; for sectioned tensors, per section.
    std::vector<std::pair<std::uint32_t, std::uint32_t>> first_and_count;
};

/// One rank: what it publishes, and the places of its buffers in its only region.
struct dense_rank {
    rank_info info;
    dense_side side;
    std::vector<dense_place> places;
    std::uint64_t region_bytes = 0;
};

/// All ranks of an instance. CP counts first, then TP, then PP.
std::vector<dense_rank> make_dense_ranks(const std::string& name, const dense_cache&,
                                         const dense_side&, random_engine&);

/// Blocks of one request on one rank.
struct dense_request {
    std::uint32_t prompt_tokens = 0;
    /// Whole blocks of these first tokens are not listed.
    std::uint32_t reused_tokens = 0;
    /// Further blocks that are not listed, by number on this side.
    std::function<bool(std::uint32_t group, std::uint32_t block)> hole = {};
};

/// Lists the blocks that the rank holds, without those that its window has passed and those of its
/// CP siblings. Slots are in random order.
kv_slice dense_slice(const dense_cache&, const dense_rank&, const dense_request&, random_engine&);

/// Calls f(offset in the region, expected byte, group, token) for every byte of every listed slot.
/// State counts as token 0.
void for_each_dense_byte(
    const dense_cache&, const dense_rank&, const kv_slice&,
    const std::function<void(std::uint64_t, std::uint8_t, std::uint32_t, std::uint32_t)>&);

} // namespace kvferry::testing
