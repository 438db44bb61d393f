// SPDX-License-Identifier: Apache-2.0
// Cuts runs until they fit a piece, groups them while they fit, and repeats groups for pairs of
// slots.
#include "transport/planner/plan/staged_plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// Devices copy whole words when both sides are aligned.
constexpr std::uint64_t alignment_bytes = 16;

void append(copy_template& to, const run& x) {
    to.runs.push_back(x);
    to.bytes += x.bytes * x.count;
    to.fragments += x.count;
}

copy_job through(const copy_job& job, std::shared_ptr<const copy_template> layout,
                 std::uint32_t source_pool, std::uint32_t target_pool,
                 std::vector<slot_pair> slots) {
    auto plan = std::make_shared<copy_plan>();
    plan->bytes = layout->bytes * slots.size();
    plan->fragments = layout->fragments * slots.size();
    plan->parts.push_back({source_pool, target_pool, std::move(layout), std::move(slots)});
    return {std::move(plan), job.source_pools, job.target_pools, job.holds, job.past_cache};
}

} // namespace

staged_cursor::staged_cursor(copy_job job, std::uint64_t piece_bytes_max)
    : job_(std::move(job)), piece_bytes_max_(piece_bytes_max) {}

std::optional<staged_piece> staged_cursor::next(std::uint64_t staging_address) {
    const auto& parts = job_.plan->parts;
    for (; part_ < parts.size(); ++part_, group_ = pair_ = 0, groups_.clear()) {
        const auto& part = parts[part_];
        if (part.slots.empty())
            continue;
        if (groups_.empty())
            cut(*part.layout);
        if (group_ == groups_.size())
            continue;
        const auto& group = groups_[group_];
        const auto fit = std::max<std::uint64_t>(1, piece_bytes_max_ / group.stride_bytes);
        const auto count = std::min<std::uint64_t>(fit, part.slots.size() - pair_);
        std::vector<slot_pair> in, out;
        for (std::uint32_t number = 0; number < count; ++number) {
            const auto& slots = part.slots[pair_ + number];
            in.push_back({slots.source, number});
            out.push_back({number, slots.target});
        }
        const std::vector<pool_base> staging{{staging_address, group.stride_bytes, 0}};
        staged_piece result{through(job_, group.gather, part.source_pool, 0, std::move(in)),
                            through(job_, group.put, 0, part.target_pool, std::move(out)),
                            group.gather->bytes * count};
        result.gather.target_pools = staging;
        result.put.source_pools = staging;
        pair_ += count;
        if (pair_ == part.slots.size()) {
            pair_ = 0;
            ++group_;
        }
        return result;
    }
    return std::nullopt;
}

void staged_cursor::cut(const copy_template& layout) {
    for (const auto& x : layout.runs)
        for (std::uint64_t offset = 0; offset < x.bytes; offset += piece_bytes_max_) {
            const auto bytes = std::min(piece_bytes_max_, x.bytes - offset);
            const auto at_once = static_cast<std::uint32_t>(
                std::min<std::uint64_t>(x.count, piece_bytes_max_ / bytes));
            for (std::uint32_t first = 0; first < x.count; first += at_once)
                add({x.source_offset_bytes + offset + first * x.source_stride_bytes,
                     x.target_offset_bytes + offset + first * x.target_stride_bytes, bytes,
                     std::min(at_once, x.count - first), x.source_stride_bytes,
                     x.target_stride_bytes});
        }
}

/// Adds a run that fits into a piece.
void staged_cursor::add(const run& x) {
    const auto length =
        (x.bytes * x.count + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
    if (groups_.empty() || groups_.back().stride_bytes + length > piece_bytes_max_)
        groups_.emplace_back();
    auto& to = groups_.back();
    append(*to.gather, {x.source_offset_bytes, to.stride_bytes, x.bytes, x.count,
                        x.source_stride_bytes, x.bytes});
    append(*to.put, {to.stride_bytes, x.target_offset_bytes, x.bytes, x.count, x.bytes,
                     x.target_stride_bytes});
    to.stride_bytes += length;
}

} // namespace kvferry
