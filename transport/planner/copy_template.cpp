// SPDX-License-Identifier: Apache-2.0
// Stretches of every kind of view, and their folding into runs.
#include "transport/planner/copy_template.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

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
    const bool intact = source.layout.kind == target.layout.kind && cut.is_whole()
                        && split.source_parts == split.target_parts;
    for (const auto& entry : pair.entries) {
        if (intact)
            add(entry.source.offset_bytes, entry.target.offset_bytes, entry.source.bytes);
        else if (source.layout.kind == mapper_kind::sectioned)
            add_sections(entry, split, source.layout, target.layout);
        else
            add_tokens(entry, split, source.layout, target.layout, cut);
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

caf::expected<copy_template> template_builder::finish() const {
    copy_template result;
    for (const auto& x : stretches_) {
        if (result.runs.empty()
            || !continues(result.runs.back(), x.source_offset_bytes, x.target_offset_bytes,
                          x.bytes))
            result.runs.push_back({x.source_offset_bytes, x.target_offset_bytes, x.bytes, 1, 0, 0});
        result.bytes += x.bytes;
    }
    result.fragments = stretches_.size();
    auto by_target = stretches_;
    std::sort(by_target.begin(), by_target.end(), [](const stretch& a, const stretch& b) {
        return a.target_offset_bytes < b.target_offset_bytes;
    });
    for (std::size_t index = 1; index < by_target.size(); ++index) {
        const auto& before = by_target[index - 1];
        if (before.target_offset_bytes + before.bytes > by_target[index].target_offset_bytes)
            return make_error(errc::plan_invalid,
                              "the target byte at slot offset "
                                  + std::to_string(by_target[index].target_offset_bytes)
                                  + " would be written twice");
    }
    return result;
}

} // namespace kvferry
