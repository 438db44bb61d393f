// SPDX-License-Identifier: Apache-2.0
// Credit is asked for once for neighbouring parts of one region.
#include "transport/fabric/put_credit.hpp"

#include <algorithm>

namespace kvferry {

put_credit::put_credit(const copy_job& job,
                       const std::function<bool(std::uint32_t)>& needs_credit) {
    for (const auto& part : job.plan->parts) {
        std::uint64_t bytes = 0;
        for (const auto& x : part.layout->runs)
            bytes += x.bytes * x.count;
        bytes *= part.slots.size();
        const auto region = job.target_pools[part.target_pool].region;
        if (bytes == 0)
            continue;
        if (stages_.empty() || stages_.back().left.region != region)
            stages_.push_back({{region, 0}, needs_credit(region)});
        stages_.back().left.bytes += bytes;
    }
}

std::optional<put_credit::demand> put_credit::take_demand() {
    if (is_done() || !stages_[now_].needs_credit || asked_)
        return std::nullopt;
    asked_ = has_asked_ = true;
    return stages_[now_].left;
}

std::uint64_t put_credit::room(std::uint64_t bytes_max) const {
    if (is_done() || !stages_[now_].needs_credit)
        return bytes_max;
    return std::min(bytes_max, credit_);
}

void put_credit::posted(std::uint64_t bytes) {
    auto& stage = stages_[now_];
    stage.left.bytes -= bytes;
    if (stage.needs_credit)
        credit_ -= bytes;
    if (stage.left.bytes > 0)
        return;
    ++now_;
    asked_ = by_reference_ = false;
    credit_ = 0;
}

} // namespace kvferry
