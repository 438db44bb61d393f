// SPDX-License-Identifier: Apache-2.0
// Stretches of every kind of view, and their folding into runs.
#include "transport/copy_template.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

/// Appends a stretch to a run when it is the run's next one. A run of one takes any distance.
bool continues(run& last, std::uint64_t source, std::uint64_t target, std::uint64_t bytes) {
    if (last.bytes != bytes)
        return false;
    if (last.count == 1) {
        if (source <= last.source_offset_bytes || target <= last.target_offset_bytes)
            return false;
        last.source_stride_bytes = source - last.source_offset_bytes;
        last.target_stride_bytes = target - last.target_offset_bytes;
    } else if (source != last.source_offset_bytes + last.count * last.source_stride_bytes ||
               target != last.target_offset_bytes + last.count * last.target_stride_bytes) {
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
        if (last.source_offset_bytes + last.bytes == source_offset_bytes &&
            last.target_offset_bytes + last.bytes == target_offset_bytes) {
            last.bytes += bytes;
            return;
        }
    }
    stretches_.push_back({source_offset_bytes, target_offset_bytes, bytes});
}

void template_builder::add(const view_pair& pair, const pool_view& source, const pool_view& target,
                           std::uint32_t tokens_per_slot) {
    const auto split = split_of(source.layout, target.layout);
    // Adds `rows` stretches: the whole finer row against its part of the coarser row.
    auto add_rows = [this, &split](std::uint64_t source_start, std::uint64_t source_row,
                                   std::uint64_t target_start, std::uint64_t target_row,
                                   std::uint32_t rows) {
        const auto bytes = std::min(source_row, target_row);
        const auto inside = split.part * bytes;
        for (std::uint64_t row = 0; row < rows; ++row)
            add(source_start + row * source_row + (split.target_is_finer ? inside : 0),
                target_start + row * target_row + (split.target_is_finer ? 0 : inside), bytes);
    };
    for (const auto& [from, to] : pair.entries) {
        if (split.ratio == 1) {
            add(from.offset_bytes, to.offset_bytes, from.bytes);
        } else if (source.layout.kind == mapper_kind::sectioned) {
            auto from_offset = from.offset_bytes;
            auto to_offset = to.offset_bytes;
            for (std::size_t section = 0; section < source.layout.section_bytes.size(); ++section) {
                const auto from_bytes = source.layout.section_bytes[section];
                const auto to_bytes = target.layout.section_bytes[section];
                add_rows(from_offset, from_bytes, to_offset, to_bytes, 1);
                from_offset += from_bytes;
                to_offset += to_bytes;
            }
        } else {
            const auto rows = source.layout.kind == mapper_kind::nhd ? tokens_per_slot : 1;
            add_rows(from.offset_bytes, from.bytes / rows, to.offset_bytes, to.bytes / rows, rows);
        }
    }
}

caf::expected<copy_template> template_builder::finish() const {
    copy_template result;
    for (const auto& x : stretches_) {
        if (result.runs.empty() ||
            !continues(result.runs.back(), x.source_offset_bytes, x.target_offset_bytes, x.bytes))
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
                              "the target byte at slot offset " +
                                  std::to_string(by_target[index].target_offset_bytes) +
                                  " would be written twice");
    }
    return result;
}

} // namespace kvferry
