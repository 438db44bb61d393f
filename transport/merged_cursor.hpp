// SPDX-License-Identifier: Apache-2.0
// A plan's stretches with neighbours taken together: fewer operations for whoever pays for each.
#pragma once

#include "transport/plan_expand.hpp"

#include <cstdint>
#include <optional>
#include <utility>

namespace kvferry {

class merged_cursor {
public:
    /// The next stretch of at most `bytes_max`; nothing when all have been given out.
    std::optional<plan_stretch> next(const copy_job& job, std::uint64_t bytes_max) {
        auto result = ahead_ ? std::exchange(ahead_, std::nullopt) : cursor_.next(job, bytes_max);
        while (result && result->bytes < bytes_max) {
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

    /// Bytes given out so far.
    std::uint64_t bytes() const { return bytes_; }

private:
    static bool follows(const plan_stretch& a, const plan_stretch& b) {
        return a.source_address + a.bytes == b.source_address
               && a.target_address + a.bytes == b.target_address
               && a.source_region == b.source_region && a.target_region == b.target_region;
    }

    plan_cursor cursor_;
    std::optional<plan_stretch> ahead_;
    std::uint64_t bytes_ = 0;
};

} // namespace kvferry
