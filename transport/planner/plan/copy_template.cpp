// SPDX-License-Identifier: Apache-2.0
// Stretches of every kind of view, and their folding into runs.
#include "transport/planner/plan/copy_template.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/row_shape.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

/// The same cut counted in rows of `tokens` tokens; blocks begin with a row, and the last row may
/// stand for tokens that are not there yet.
token_cut rows_of_tokens(const token_cut& cut, std::uint32_t tokens) {
    return {cut.source_tokens / tokens, cut.target_tokens / tokens, cut.source_first / tokens,
            cut.target_first / tokens, (cut.tokens + tokens - 1) / tokens};
}

/// Appends a stretch to a run when it continues the run. A run of one stretch may continue at any
/// distance.
bool continues(run& last, std::uint64_t source, std::uint64_t target, std::uint64_t bytes) {
    if (last.bytes != bytes)
        return false;
    if (last.count == 1) {
        if (source <= last.source_offset_bytes || target <= last.target_offset_bytes)
            return false;
        last.source_stride_bytes = source - last.source_offset_bytes;
        last.target_stride_bytes = target - last.target_offset_bytes;
    } else if (source != last.source_offset_bytes + last.count * last.source_stride_bytes
               || target != last.target_offset_bytes + last.count * last.target_stride_bytes) {
        return false;
    }
    ++last.count;
    return true;
}

} // namespace

void template_builder::add(std::uint64_t source_offset_bytes, std::uint64_t target_offset_bytes,
                           std::uint64_t bytes) {
    if (!stretches_.empty()) {
        auto& last = stretches_.back();
        if (last.source_offset_bytes + last.bytes == source_offset_bytes
            && last.target_offset_bytes + last.bytes == target_offset_bytes) {
            last.bytes += bytes;
            return;
        }
    }
    stretches_.push_back({source_offset_bytes, target_offset_bytes, bytes});
}

void template_builder::add(const view_pair& pair, const pool_view& source, const pool_view& target,
                           const token_cut& cut) {
    const auto split = overlap_of(source.layout, target.layout);
    const bool gaps = has_gaps(source.layout) || has_gaps(target.layout);
    const bool by_row = gaps || match_rows(source.layout, target.layout) != row_match::alike;
    const bool intact = !by_row && source.layout.kind == target.layout.kind && cut.is_whole()
                        && split.source_parts == split.target_parts;
    has_gaps_ = has_gaps_ || gaps;
    for (const auto& entry : pair.entries) {
        if (intact)
            add(entry.source.offset_bytes, entry.target.offset_bytes, entry.source.bytes);
        else if (source.layout.kind == mapper_kind::sectioned)
            add_sections(entry, split, source.layout, target.layout);
        else if (by_row)
            add_rows(entry, split, source.layout, target.layout, cut);
        else
            add_tokens(entry, split, source.layout, target.layout,
                       rows_of_tokens(cut, source.layout.tokens_per_row));
    }
}

void template_builder::add_sections(const entry_pair& entry, const shard_overlap& split,
                                    const role_layout& source, const role_layout& target) {
    auto from = entry.source.offset_bytes;
    auto to = entry.target.offset_bytes;
    for (std::size_t section = 0; section < source.section_bytes.size(); ++section) {
        const auto part_bytes = source.section_bytes[section] / split.source_parts;
        add(from + split.source_first * part_bytes, to + split.target_first * part_bytes,
            split.parts * part_bytes);
        from += source.section_bytes[section];
        to += target.section_bytes[section];
    }
}

/// Works in parts (whole numbers of heads) where heads lie together, and in heads where they do
/// not.
void template_builder::add_tokens(const entry_pair& entry, const shard_overlap& split,
                                  const role_layout& source, const role_layout& target,
                                  const token_cut& cut) {
    const auto from = entry.source.offset_bytes;
    const auto to = entry.target.offset_bytes;
    const auto from_part = entry.source.bytes / split.source_parts;
    const auto to_part = entry.target.bytes / split.target_parts;
    const bool from_by_head = source.kind == mapper_kind::hnd;
    const bool to_by_head = target.kind == mapper_kind::hnd;
    if (from_by_head && to_by_head && cut.is_whole()) {
        add(from + split.source_first * from_part, to + split.target_first * to_part,
            split.parts * from_part);
        return;
    }
    if (!from_by_head && !to_by_head) { // nhd, and replicated as nhd with one head
        const auto part_row = from_part / cut.source_tokens;
        const auto from_row = entry.source.bytes / cut.source_tokens;
        const auto to_row = entry.target.bytes / cut.target_tokens;
        for (std::uint64_t token = 0; token < cut.tokens; ++token)
            add(from + (cut.source_first + token) * from_row + split.source_first * part_row,
                to + (cut.target_first + token) * to_row + split.target_first * part_row,
                split.parts * part_row);
        return;
    }
    const auto from_head = source.shard_unit_bytes.value();
    const auto to_head = target.shard_unit_bytes.value();
    const auto row = from_head / cut.source_tokens;
    const auto part_heads = from_part / from_head;
    // Distance between two tokens of one head; in nhd, heads of one token are `row` apart.
    const auto from_step = from_by_head ? row : entry.source.bytes / cut.source_tokens;
    const auto to_step = to_by_head ? row : entry.target.bytes / cut.target_tokens;
    const bool tokens_lie_together = from_step == row && to_step == row;
    for (std::uint64_t head = 0; head < split.parts * part_heads; ++head) {
        const auto from_start =
            from + cut.source_first * from_step
            + (split.source_first * part_heads + head) * (from_by_head ? from_head : row);
        const auto to_start =
            to + cut.target_first * to_step
            + (split.target_first * part_heads + head) * (to_by_head ? to_head : row);
        if (tokens_lie_together) {
            add(from_start, to_start, cut.tokens * row);
            continue;
        }
        for (std::uint64_t token = 0; token < cut.tokens; ++token)
            add(from_start + token * from_step, to_start + token * to_step, row);
    }
}

/// Row by row, with heads together where they lie together on both sides.
void template_builder::add_rows(const entry_pair& entry, const shard_overlap& split,
                                const role_layout& source, const role_layout& target,
                                const token_cut& cut) {
    const auto from = rows_of(source, cut.source_tokens, entry.source.bytes);
    const auto to = rows_of(target, cut.target_tokens, entry.target.bytes);
    const bool heads_lie_together = (from.heads == 1 || from.head_step == from.row_bytes)
                                    && (to.heads == 1 || to.head_step == to.row_bytes);
    const auto part_bytes = entry.source.bytes / from.rows / split.source_parts;
    const auto heads = heads_lie_together ? 1 : split.parts * (from.heads / split.source_parts);
    const auto bytes = heads_lie_together ? split.parts * part_bytes : from.row_bytes;
    const auto from_first =
        entry.source.offset_bytes
        + (heads_lie_together
               ? split.source_first * part_bytes
               : split.source_first * (from.heads / split.source_parts) * from.head_step);
    const auto to_first =
        entry.target.offset_bytes
        + (heads_lie_together
               ? split.target_first * part_bytes
               : split.target_first * (to.heads / split.target_parts) * to.head_step);
    const auto add_row = [&](std::uint64_t source_row, std::uint64_t target_row) {
        for (std::uint64_t head = 0; head < heads; ++head)
            add(from_first + head * from.head_step + source_row * from.row_step,
                to_first + head * to.head_step + target_row * to.row_step, bytes);
    };
    const auto per_row = std::max(source.tokens_per_row, target.tokens_per_row);
    const auto match = match_rows(source, target);
    if (match == row_match::alike) {
        const auto rows = rows_of_tokens(cut, per_row);
        for (std::uint32_t row = 0; row < rows.tokens; ++row)
            add_row(rows.source_first + row, rows.target_first + row);
        return;
    }
    // Of the cut's tokens, one side holds every `per_row`-th.
    const bool source_is_dealt = match == row_match::source_dealt;
    const auto first = source_is_dealt ? cut.source_first : cut.target_first;
    const auto held = source_is_dealt ? *source.token_of_row : *target.token_of_row;
    for (std::uint64_t token = (held + per_row - first % per_row) % per_row; token < cut.tokens;
         token += per_row)
        add_row(source_is_dealt ? (first + token) / per_row : cut.source_first + token,
                source_is_dealt ? cut.target_first + token : (first + token) / per_row);
}

/// In the order of the target, neighbours together.
std::vector<template_builder::stretch> template_builder::merged_by_target() const {
    auto sorted = stretches_;
    std::sort(sorted.begin(), sorted.end(), [](const stretch& a, const stretch& b) {
        return a.target_offset_bytes < b.target_offset_bytes;
    });
    template_builder merged;
    for (const auto& x : sorted)
        merged.add(x.source_offset_bytes, x.target_offset_bytes, x.bytes);
    return merged.stretches_;
}

caf::expected<copy_template> template_builder::finish() const {
    copy_template result;
    std::vector<stretch> merged;
    if (has_gaps_)
        merged = merged_by_target();
    const auto& stretches = has_gaps_ ? merged : stretches_;
    for (const auto& x : stretches) {
        if (result.runs.empty()
            || !continues(result.runs.back(), x.source_offset_bytes, x.target_offset_bytes,
                          x.bytes))
            result.runs.push_back({x.source_offset_bytes, x.target_offset_bytes, x.bytes, 1, 0, 0});
        result.bytes += x.bytes;
    }
    result.fragments = stretches.size();
    auto by_target = stretches;
    std::sort(by_target.begin(), by_target.end(), [](const stretch& a, const stretch& b) {
        return a.target_offset_bytes < b.target_offset_bytes;
    });
    for (std::size_t index = 1; index < by_target.size(); ++index) {
        const auto& before = by_target[index - 1];
        if (before.target_offset_bytes + before.bytes > by_target[index].target_offset_bytes)
            return make_error(errc::plan_invalid,
                              "the target byte at slot offset {} would be written twice",
                              by_target[index].target_offset_bytes);
    }
    return result;
}

} // namespace kvferry
