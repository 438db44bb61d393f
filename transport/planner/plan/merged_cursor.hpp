// SPDX-License-Identifier: Apache-2.0
// A plan's stretches with adjacent ones merged: fewer operations where each operation costs.
#pragma once

#include "transport/planner/plan/plan_expand.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace kvferry {

class merged_cursor {
public:
    /// The next stretch of at most `bytes_max`; nullopt after the last.
    std::optional<plan_stretch> next(const copy_job& job, std::uint64_t bytes_max) {
        auto result = ahead_ ? take_ahead(bytes_max) : cursor_.next(job, bytes_max);
        while (result && !ahead_ && result->bytes < bytes_max) {
            ahead_ = cursor_.next(job, bytes_max);
            if (!ahead_ || !follows(*result, *ahead_) || ahead_->bytes > bytes_max - result->bytes)
                break;
            result->bytes += ahead_->bytes;
            ahead_.reset();
        }
        if (result)
            bytes_ += result->bytes;
        return result;
    }

    /// Bytes returned so far.
    std::uint64_t bytes() const { return bytes_; }

private:
    static bool follows(const plan_stretch& a, const plan_stretch& b) {
        return a.source_address + a.bytes == b.source_address
               && a.target_address + a.bytes == b.target_address
               && a.source_region == b.source_region && a.target_region == b.target_region;
    }

    /// Returns the stretch read ahead; cuts it again when `bytes_max` is smaller this time.
    plan_stretch take_ahead(std::uint64_t bytes_max) {
        auto result = *ahead_;
        result.bytes = std::min(result.bytes, bytes_max);
        ahead_->source_address += result.bytes;
        ahead_->target_address += result.bytes;
        if ((ahead_->bytes -= result.bytes) == 0)
            ahead_.reset();
        return result;
    }

    plan_cursor cursor_;
    std::optional<plan_stretch> ahead_;
    std::uint64_t bytes_ = 0;
};

} // namespace kvferry
