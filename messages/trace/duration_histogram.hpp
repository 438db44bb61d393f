// SPDX-License-Identifier: Apache-2.0
// Times by size, from 10 us to 100 s, two buckets for each power of ten; any thread may add.
#pragma once

#include "messages/trace/exemplar.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kvferry {

class duration_histogram {
public:
    /// Upper bounds of the buckets, in nanoseconds; what takes longer has one more bucket.
    static constexpr std::array<std::int64_t, 15> bounds{
        10'000,        32'000,        100'000,        320'000,        1'000'000,
        3'200'000,     10'000'000,    32'000'000,     100'000'000,    320'000'000,
        1'000'000'000, 3'200'000'000, 10'000'000'000, 32'000'000'000, 100'000'000'000};

    /// A time below zero counts as zero. A request without a number is no exemplar.
    void add(std::chrono::nanoseconds time, const request_trace& of = {}) {
        const auto ns = std::max<std::int64_t>(time.count(), 0);
        std::size_t bucket = 0;
        for (auto bound : bounds)
            bucket += ns > bound ? 1 : 0;
        counts_[bucket].fetch_add(1, std::memory_order_relaxed);
        sum_ns_.fetch_add(static_cast<std::uint64_t>(ns), std::memory_order_relaxed);
        if (of.rid != 0)
            exemplars_[bucket].offer(of, std::chrono::nanoseconds{ns});
    }

    /// Of a bucket, by its index in counts().
    std::optional<exemplar> exemplar_of(std::size_t bucket) const {
        return exemplars_[bucket].look();
    }

    /// By bucket, not added up; the last one has what is above all bounds.
    std::array<std::uint64_t, bounds.size() + 1> counts() const {
        std::array<std::uint64_t, bounds.size() + 1> result{};
        for (std::size_t index = 0; index < result.size(); ++index)
            result[index] = counts_[index].load(std::memory_order_relaxed);
        return result;
    }

    std::chrono::nanoseconds sum() const {
        return std::chrono::nanoseconds{sum_ns_.load(std::memory_order_relaxed)};
    }

private:
    std::array<std::atomic<std::uint64_t>, bounds.size() + 1> counts_{};
    std::atomic<std::uint64_t> sum_ns_{0};
    /// A look changes no number.
    mutable std::array<exemplar_slot, bounds.size() + 1> exemplars_{};
};

} // namespace kvferry
