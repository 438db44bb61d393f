// SPDX-License-Identifier: Apache-2.0
// A plan as the stretches of bytes that it stands for, one at a time: for copy loops, puts and
// tests.
//
// Address rule: pool's slot 0 + slot * slot stride + run's offset + index * run's stride.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/page_table.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace kvferry {

/// Calls f(source address, target address, bytes), all of type std::uint64_t, for every stretch.
template <class F>
void expand(const copy_plan& plan, const std::vector<pool_base>& sources,
            const std::vector<pool_base>& targets, F&& f) {
    for (const auto& part : plan.parts) {
        const auto& source = sources[part.source_pool];
        const auto& target = targets[part.target_pool];
        for (const auto& pair : part.slots) {
            const auto from = source.slot0_address + pair.source * source.slot_stride_bytes;
            const auto to = target.slot0_address + pair.target * target.slot_stride_bytes;
            for (const auto& x : part.layout->runs)
                for (std::uint64_t index = 0; index < x.count; ++index)
                    f(from + x.source_offset_bytes + index * x.source_stride_bytes,
                      to + x.target_offset_bytes + index * x.target_stride_bytes, x.bytes);
        }
    }
}

template <class F>
void expand(const copy_job& job, F&& f) {
    expand(*job.plan, job.source_pools, job.target_pools, std::forward<F>(f));
}

/// Bytes that lie together on both sides.
struct plan_stretch {
    std::uint64_t source_address = 0;
    std::uint64_t target_address = 0;
    std::uint64_t bytes = 0;
    /// Regions of the two pools (pool_base::region).
    std::uint32_t source_region = 0;
    std::uint32_t target_region = 0;

    friend bool operator==(const plan_stretch&, const plan_stretch&) = default;
};

/// Progress through a job. A plain value that points into nothing; pass the same job at each step.
class plan_cursor {
public:
    /// The next stretch, cut at `bytes_max` (above 0); nullopt after the last.
    std::optional<plan_stretch> next(const copy_job& job, std::uint64_t bytes_max) {
        const auto& parts = job.plan->parts;
        while (part_ < parts.size() && slot_ == parts[part_].slots.size()) {
            ++part_;
            slot_ = 0;
        }
        if (part_ == parts.size())
            return std::nullopt;
        const auto& part = parts[part_];
        const auto& source = job.source_pools[part.source_pool];
        const auto& target = job.target_pools[part.target_pool];
        const auto& pair = part.slots[slot_];
        const auto& x = part.layout->runs[run_];
        const plan_stretch result{
            source.slot0_address + pair.source * source.slot_stride_bytes + x.source_offset_bytes
                + index_ * x.source_stride_bytes + offset_,
            target.slot0_address + pair.target * target.slot_stride_bytes + x.target_offset_bytes
                + index_ * x.target_stride_bytes + offset_,
            std::min(x.bytes - offset_, bytes_max), source.region, target.region};
        step(part, x, result.bytes);
        return result;
    }

    /// Bytes returned so far; the plan's `bytes` at the end.
    std::uint64_t bytes() const { return bytes_; }

    /// Where the next stretch is among the plan's words (word_sums), if every cut so far was at a
    /// whole word: the number of its pair of slots, and its first word there.
    std::uint64_t pair() const { return pair_; }
    std::uint64_t word() const { return words_before_ + offset_ / 8; }

private:
    void step(const plan_part& part, const run& x, std::uint64_t bytes) {
        bytes_ += bytes;
        offset_ += bytes;
        if (offset_ < x.bytes)
            return;
        offset_ = 0;
        words_before_ += (x.bytes + 7) / 8;
        if (++index_ < x.count)
            return;
        index_ = 0;
        if (++run_ < part.layout->runs.size())
            return;
        run_ = 0;
        ++slot_;
        ++pair_;
        words_before_ = 0;
    }

    std::size_t part_ = 0;
    std::size_t slot_ = 0;
    std::size_t run_ = 0;
    std::uint64_t index_ = 0;
    std::uint64_t offset_ = 0;
    std::uint64_t bytes_ = 0;
    std::uint64_t pair_ = 0;
    /// Of this pair.
    std::uint64_t words_before_ = 0;
};

/// Where the pools begin when region i begins at region_addresses[i] (0: not addressable). The
/// error names the region that has no address.
caf::expected<std::vector<pool_base>>
pool_bases(const page_table&, const std::vector<std::uint64_t>& region_addresses);

} // namespace kvferry
