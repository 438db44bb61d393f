// SPDX-License-Identifier: Apache-2.0
// Puts the frames of each stream back into order: UCX does not keep the order of messages of
// different sizes or on different lanes.
#pragma once

#include <caf/byte_buffer.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

namespace kvferry {

/// Remembers a bounded number of streams; forgets the one that was silent longest first.
class frame_order {
public:
    explicit frame_order(std::size_t streams_max = 16384, std::size_t held_max = 4096)
        : streams_max_(streams_max), held_max_(held_max) {}

    /// Appends to `ready` the frames that are next in order. False: the frame is a duplicate, or
    /// too many frames wait for a missing one; it is dropped.
    bool accept(std::uint64_t stream, std::uint64_t sequence, caf::byte_buffer frame,
                std::vector<caf::byte_buffer>& ready) {
        auto& x = find(stream);
        x.touched = ++clock_;
        if (sequence < x.next)
            return false;
        if (sequence > x.next)
            return x.held.size() < held_max_
                   && x.held.try_emplace(sequence, std::move(frame)).second;
        ready.push_back(std::move(frame));
        ++x.next;
        for (auto it = x.held.begin(); it != x.held.end() && it->first == x.next;
             it = x.held.erase(it)) {
            ready.push_back(std::move(it->second));
            ++x.next;
        }
        return true;
    }

    std::size_t streams() const { return streams_.size(); }

private:
    struct stream_state {
        std::uint64_t next = 0;
        std::uint64_t touched = 0;
        std::map<std::uint64_t, caf::byte_buffer> held;
    };

    stream_state& find(std::uint64_t stream) {
        if (auto found = streams_.find(stream); found != streams_.end())
            return found->second;
        if (streams_.size() >= streams_max_)
            streams_.erase(std::min_element(streams_.begin(), streams_.end(), [](auto& a, auto& b) {
                return a.second.touched < b.second.touched;
            }));
        return streams_[stream];
    }

    std::size_t streams_max_;
    std::size_t held_max_;
    std::uint64_t clock_ = 0;
    std::unordered_map<std::uint64_t, stream_state> streams_;
};

} // namespace kvferry
