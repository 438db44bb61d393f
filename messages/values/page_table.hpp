// SPDX-License-Identifier: Apache-2.0
// A rank's published description of all its cache memory: layer groups, views, pools and slots.
//
// Address rule of every consumer: pool.base_address + slot * pool.slot_stride_bytes + entry.offset.
#pragma once

#include "messages/inspect_enum.hpp"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

/// How one layer of a view is laid out inside a slot, hence how it may be split between ranks.
enum class mapper_kind : std::uint8_t {
    /// [head][token][dim]: a head is one stretch of bytes per buffer.
    hnd = 0,
    /// The same bytes on every rank (MLA, indexer caches).
    replicated = 1,
    /// [token][head][dim]: a head is one stretch of bytes per token.
    nhd = 2,
    /// Several sections, each split between ranks on its own (convolution state).
    sectioned = 3,
};

/// One stretch of bytes of one layer inside a slot: K, or V, or the latent of one layer.
struct buffer_entry {
    /// Index into layer_group::layers.
    std::uint32_t local_layer = 0;
    /// Offset from the start of the slot; may exceed slot_bytes when the pool is layer-major.
    std::uint64_t offset_bytes = 0;
    /// Without what lies between its rows (role_layout::row_stride_bytes).
    std::uint64_t bytes = 0;

    friend bool operator==(const buffer_entry&, const buffer_entry&) = default;
};

/// Which part of the model's tensor a view holds: its shard, and which replica of that shard.
struct role_layout {
    mapper_kind kind = mapper_kind::hnd;
    std::uint32_t num_shards = 1;
    std::uint32_t shard_index = 0;
    std::uint32_t num_replicas = 1;
    std::uint32_t replica_index = 0;
    /// Bytes of the smallest piece that may be split off (one head of one block); none:
    /// unsplittable.
    std::optional<std::uint64_t> shard_unit_bytes;
    /// Sizes of the sections; only and always for mapper_kind::sectioned.
    std::vector<std::uint64_t> section_bytes;
    /// Element type by name ("bf16", "fp8_e4m3"); compared for equality, never converted.
    std::string element_type;
    /// Shape of one element row; compared for equality.
    std::vector<std::uint32_t> element_shape;
    /// Tokens that one row stands for: several in a compressed cache, and when CP ranks deal out
    /// tokens one by one. Rows are not cut.
    std::uint32_t tokens_per_row = 1;
    /// Which of these tokens the row holds, when CP ranks deal them out; none: all of them.
    std::optional<std::uint32_t> token_of_row = {};
    /// Distances of the rows of one head, and of the heads of one row, where something else lies
    /// between them (K and V in turn); 0: they lie as `kind` says.
    std::uint64_t row_stride_bytes = 0;
    std::uint64_t head_stride_bytes = 0;

    friend bool operator==(const role_layout&, const role_layout&) = default;
};

/// One class of buffers ("key" and "value" together, or "indexer_k") of one group in one pool.
struct pool_view {
    /// Index into page_table::pools.
    std::uint32_t pool = 0;
    /// Role names, sorted; views of two ranks match when these are equal and layers intersect.
    std::vector<std::string> roles;
    role_layout layout;
    /// Sorted by offset; each layer's entries are contiguous and every layer has the same total.
    std::vector<buffer_entry> entries;

    friend bool operator==(const pool_view&, const pool_view&) = default;
};

/// One view of a page table: indexes into page_table::groups and layer_group::views.
struct view_place {
    std::uint32_t group = 0;
    std::uint32_t view = 0;

    friend auto operator<=>(const view_place&, const view_place&) = default;
};

/// The layers whose blocks are listed by one list of slots per request.
struct layer_group {
    /// Global layer ids in local order.
    std::vector<std::uint32_t> layers;
    /// Tokens of one block; none: one slot per request (recurrent state).
    std::optional<std::uint32_t> tokens_per_slot;
    /// Sliding window in tokens; none: full attention.
    std::optional<std::uint32_t> live_token_window;
    std::vector<pool_view> views;

    friend bool operator==(const layer_group&, const layer_group&) = default;
};

/// Physical memory addressed by slot.
struct physical_pool {
    /// Index into the rank's list of regions (rank_regions).
    std::uint32_t region = 0;
    /// Where slot 0 begins inside the region.
    std::uint64_t region_offset_bytes = 0;
    std::uint64_t slot_bytes = 0;
    /// Distance between two slots, >= slot_bytes unless the pool is layer-major.
    std::uint64_t slot_stride_bytes = 0;
    std::uint32_t slot_count = 0;

    friend bool operator==(const physical_pool&, const physical_pool&) = default;
};

/// Everything a peer needs to know to address this rank's cache.
struct page_table {
    std::vector<layer_group> groups;
    std::vector<physical_pool> pools;

    friend bool operator==(const page_table&, const page_table&) = default;
};

std::string to_string(mapper_kind);

template <class Inspector>
bool inspect(Inspector& f, mapper_kind& x) {
    return inspect_enum(f, x, mapper_kind::sectioned);
}

template <class Inspector>
bool inspect(Inspector& f, buffer_entry& x) {
    return f.object(x).fields(f.field("local_layer", x.local_layer),
                              f.field("offset_bytes", x.offset_bytes), f.field("bytes", x.bytes));
}

template <class Inspector>
bool inspect(Inspector& f, role_layout& x) {
    return f.object(x).fields(
        f.field("kind", x.kind), f.field("num_shards", x.num_shards),
        f.field("shard_index", x.shard_index), f.field("num_replicas", x.num_replicas),
        f.field("replica_index", x.replica_index), f.field("shard_unit_bytes", x.shard_unit_bytes),
        f.field("section_bytes", x.section_bytes), f.field("element_type", x.element_type),
        f.field("element_shape", x.element_shape), f.field("tokens_per_row", x.tokens_per_row),
        f.field("token_of_row", x.token_of_row), f.field("row_stride_bytes", x.row_stride_bytes),
        f.field("head_stride_bytes", x.head_stride_bytes));
}

template <class Inspector>
bool inspect(Inspector& f, pool_view& x) {
    return f.object(x).fields(f.field("pool", x.pool), f.field("roles", x.roles),
                              f.field("layout", x.layout), f.field("entries", x.entries));
}

template <class Inspector>
bool inspect(Inspector& f, layer_group& x) {
    return f.object(x).fields(
        f.field("layers", x.layers), f.field("tokens_per_slot", x.tokens_per_slot),
        f.field("live_token_window", x.live_token_window), f.field("views", x.views));
}

template <class Inspector>
bool inspect(Inspector& f, view_place& x) {
    return f.object(x).fields(f.field("group", x.group), f.field("view", x.view));
}

template <class Inspector>
bool inspect(Inspector& f, physical_pool& x) {
    return f.object(x).fields(
        f.field("region", x.region), f.field("region_offset_bytes", x.region_offset_bytes),
        f.field("slot_bytes", x.slot_bytes), f.field("slot_stride_bytes", x.slot_stride_bytes),
        f.field("slot_count", x.slot_count));
}

template <class Inspector>
bool inspect(Inspector& f, page_table& x) {
    return f.object(x).fields(f.field("groups", x.groups), f.field("pools", x.pools));
}

} // namespace kvferry
