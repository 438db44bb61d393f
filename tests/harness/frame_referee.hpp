// SPDX-License-Identifier: Apache-2.0
// Reads every frame on its way and holds the protocol to its word: one report per piece, one cancel
// per attempt. Knows the messages, nothing of who sends them when.
#pragma once

#include "messages/codec.hpp"

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>

namespace kvferry::harness {

class frame_referee {
public:
    using complain = std::function<void(std::string)>;

    explicit frame_referee(complain report) : report_(std::move(report)) {}

    void sent(incarnation from, incarnation to, byte_view frame);
    void delivered(incarnation from, incarnation to, byte_view frame);

    /// A request_data of this attempt has reached that writer, and when.
    bool was_asked(incarnation writer, attempt session) const {
        return asked_.contains({writer, session});
    }

    struct recorded {
        incarnation from;
        incarnation to;
        byte_buffer frame;
    };
    /// Some of what was sent, for replays.
    const std::deque<recorded>& recent() const { return recent_; }

    std::uint64_t requests() const { return requests_; }

private:
    /// Sender, receiver, attempt, receive slice, send slice, kind.
    using report_key =
        std::tuple<incarnation, incarnation, attempt, slice_index, std::uint32_t, payload_kind>;
    using cancel_key = std::tuple<incarnation, incarnation, attempt, slice_index, side>;

    complain report_;
    std::set<report_key> reports_;
    std::set<cancel_key> cancels_;
    std::set<std::pair<incarnation, attempt>> asked_;
    std::deque<recorded> recent_;
    std::uint64_t requests_ = 0;
};

} // namespace kvferry::harness
