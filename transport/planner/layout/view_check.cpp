// SPDX-License-Identifier: Apache-2.0
// What two views must agree on, and what must be separated inside a buffer.
#include "transport/planner/layout/view_check.hpp"

#include "transport/planner/layout/row_shape.hpp"
#include "transport/planner/layout/shard_overlap.hpp"

#include <string>

namespace kvferry {

namespace {

using detail::text;

/// Whether heads, or tokens, must be separated inside a buffer.
struct cut {
    bool heads = false;
    bool tokens = false;
};

cut cut_of(const view_candidate& x) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    const bool by_row = x.source_group.tokens_per_slot != x.target_group.tokens_per_slot
                        || has_gaps(a) || has_gaps(b) || match_rows(a, b) != row_match::alike;
    const bool converted = a.kind != b.kind;
    const bool per_head = a.kind == mapper_kind::hnd || b.kind == mapper_kind::hnd
                          || a.head_stride_bytes != 0 || b.head_stride_bytes != 0;
    return {a.num_shards != b.num_shards || converted || (by_row && per_head), by_row || converted};
}

/// Rows of a whole slot.
std::uint64_t rows_in(const layer_group& group, const role_layout& layout) {
    return group.tokens_per_slot.value_or(1) / layout.tokens_per_row;
}

bool can_be_converted(mapper_kind a, mapper_kind b) {
    auto by_head = [](mapper_kind x) { return x == mapper_kind::hnd || x == mapper_kind::nhd; };
    return a == b || (by_head(a) && by_head(b));
}

/// Checks token counts of both sides, and what is needed to cut between tokens.
caf::error check_tokens(const view_candidate& x) {
    const auto& a = x.source_group.tokens_per_slot;
    const auto& b = x.target_group.tokens_per_slot;
    if (a.has_value() != b.has_value())
        return x.differs("tokens_per_slot", a, b);
    if (match_rows(x.source.layout, x.target.layout) == row_match::never)
        return x.differs("tokens_per_row (tokens in one row are not separated)",
                         std::uint64_t{x.source.layout.tokens_per_row},
                         std::uint64_t{x.target.layout.tokens_per_row});
    if (!cut_of(x).tokens)
        return {};
    if (!a)
        return x.differs("kind (state without tokens is not converted)",
                         to_string(x.source.layout.kind), to_string(x.target.layout.kind));
    if (x.source.layout.kind == mapper_kind::sectioned)
        return x.differs("tokens_per_slot (sections are not cut between tokens)", a, b);
    if (x.source.layout.element_shape.empty())
        return x.differs(
            "tokens_per_slot (without element_shape a block is not cut between tokens)", a, b);
    if (block_pieces(*a, *b) > block_pieces_max)
        return x.differs("tokens_per_slot (the blocks cut each other into more than "
                             + text(block_pieces_max) + " pieces)",
                         a, b);
    return {};
}

caf::error check_sections(const view_candidate& x) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    if (a.section_bytes.size() != b.section_bytes.size())
        return x.differs("number of sections", a.section_bytes.size(), b.section_bytes.size());
    const auto split = overlap_of(a, b);
    for (std::size_t index = 0; index < a.section_bytes.size(); ++index)
        if (a.section_bytes[index] * a.num_shards != b.section_bytes[index] * b.num_shards
            || a.section_bytes[index] % split.source_parts != 0)
            return x.differs("bytes of all shards of section " + text(index),
                             a.section_bytes[index] * a.num_shards,
                             b.section_bytes[index] * b.num_shards);
    return {};
}

/// Both sides must agree on the bytes of a head (of one token, when tokens are separated).
caf::error check_unit(const view_candidate& x) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    const auto needed = cut_of(x);
    if (!needed.heads || a.kind == mapper_kind::sectioned)
        return {};
    if (!a.shard_unit_bytes || !b.shard_unit_bytes
        || (!needed.tokens && a.shard_unit_bytes != b.shard_unit_bytes))
        return x.differs("shard_unit_bytes (needed to split heads)", a.shard_unit_bytes,
                         b.shard_unit_bytes);
    if (!needed.tokens)
        return {};
    const auto source_rows = rows_in(x.source_group, a);
    const auto target_rows = rows_in(x.target_group, b);
    if (*a.shard_unit_bytes % source_rows != 0 || *b.shard_unit_bytes % target_rows != 0
        || *a.shard_unit_bytes / source_rows != *b.shard_unit_bytes / target_rows)
        return x.differs("shard_unit_bytes (per token, with tokens_per_slot "
                             + text(x.source_group.tokens_per_slot) + " and "
                             + text(x.target_group.tokens_per_slot) + ")",
                         a.shard_unit_bytes, b.shard_unit_bytes);
    return {};
}

} // namespace

caf::error check_views(const view_candidate& x) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    if (!can_be_converted(a.kind, b.kind))
        return x.differs("kind", to_string(a.kind), to_string(b.kind));
    if (a.element_type != b.element_type)
        return x.differs("element_type", a.element_type, b.element_type);
    if (a.element_shape != b.element_shape)
        return x.differs("element_shape", a.element_shape, b.element_shape);
    if (auto error = check_tokens(x))
        return error;
    if (auto error = check_sections(x))
        return error;
    return check_unit(x);
}

caf::error check_entries(const view_candidate& x, const entry_pair& pair) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    const auto needed = cut_of(x);
    const auto where =
        " of one buffer of layer " + text(x.source_group.layers[pair.source.local_layer]);
    const auto source_rows = rows_in(x.source_group, a);
    const auto target_rows = rows_in(x.target_group, b);
    if (needed.tokens
        && (pair.source.bytes % source_rows != 0 || pair.target.bytes % target_rows != 0))
        return x.differs("bytes" + where + " (must be a multiple of tokens_per_slot "
                             + text(x.source_group.tokens_per_slot) + " and "
                             + text(x.target_group.tokens_per_slot) + ")",
                         pair.source.bytes, pair.target.bytes);
    const auto source_bytes = pair.source.bytes / (needed.tokens ? source_rows : 1);
    const auto target_bytes = pair.target.bytes / (needed.tokens ? target_rows : 1);
    if (source_bytes * a.num_shards != target_bytes * b.num_shards)
        return x.differs((needed.tokens ? "bytes per token of all shards" : "bytes of all shards")
                             + where,
                         source_bytes * a.num_shards, target_bytes * b.num_shards);
    if (!needed.heads || a.kind == mapper_kind::sectioned)
        return {};
    const auto split = overlap_of(a, b);
    if (pair.source.bytes % *a.shard_unit_bytes != 0
        || pair.source.bytes / *a.shard_unit_bytes % split.source_parts != 0)
        return x.differs("bytes" + where + " (" + text(split.source_parts) + " and "
                             + text(split.target_parts)
                             + " parts of it must be multiples of shard_unit_bytes "
                             + text(*a.shard_unit_bytes) + ")",
                         pair.source.bytes, pair.target.bytes);
    if (a.kind == mapper_kind::nhd
        && (!x.source_group.tokens_per_slot || pair.source.bytes % source_rows != 0))
        return x.differs("bytes" + where + " (nhd: must be a multiple of tokens_per_slot "
                             + text(x.source_group.tokens_per_slot) + ")",
                         pair.source.bytes, pair.target.bytes);
    return {};
}

} // namespace kvferry
