// SPDX-License-Identifier: Apache-2.0
// Frames that have overtaken their peer's introduction, until there is a link: no order of frames
// is promised, and a peer may ask right behind its introduction. Bounded; a value.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/wire/codec.hpp"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

namespace kvferry {

class early_frames {
public:
    static constexpr std::size_t frames_max = 64;
    static constexpr std::size_t bytes_max = std::size_t{1} << 20;

    /// The oldest go first.
    void keep(incarnation from, byte_buffer frame) {
        if (frame.size() > bytes_max)
            return;
        bytes_ += frame.size();
        kept_.emplace_back(from, std::move(frame));
        while (kept_.size() > frames_max || bytes_ > bytes_max) {
            bytes_ -= kept_.front().second.size();
            kept_.pop_front();
        }
    }

    std::vector<byte_buffer> take(incarnation from) {
        const auto others = std::stable_partition(
            kept_.begin(), kept_.end(), [from](const auto& each) { return each.first != from; });
        std::vector<byte_buffer> result;
        for (auto each = others; each != kept_.end(); ++each) {
            bytes_ -= each->second.size();
            result.push_back(std::move(each->second));
        }
        kept_.erase(others, kept_.end());
        return result;
    }

private:
    std::deque<std::pair<incarnation, byte_buffer>> kept_;
    std::size_t bytes_ = 0;
};

} // namespace kvferry
