// SPDX-License-Identifier: Apache-2.0
// Who waits for the end of writes into this rank's memory: answered when no device, and no other
// thread of a wire, can still be writing for what they name. Bytes that the fabric's own thread
// places need no waiting. Pure.
#pragma once

#include "messages/values/ids.hpp"
#include "transport/fabric/inbound_writes.hpp"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

template <class Answer>
class quiet_waits {
public:
    /// All regions and all attempts.
    struct everything {};
    using subject = std::variant<incarnation, attempt, region_id, everything>;

    void add(subject what, Answer answer) { waiting_.emplace_back(what, std::move(answer)); }

    /// Those that wait no longer. `may_put(writer)` says whether hardware may still put for it.
    template <class F>
    std::vector<Answer> take(const inbound_writes& inbound, F&& may_put) {
        std::vector<Answer> result;
        std::erase_if(waiting_, [&](auto& each) {
            if (must_wait(each.first, inbound, may_put))
                return false;
            result.push_back(std::move(each.second));
            return true;
        });
        return result;
    }

    template <class F>
    static bool must_wait(const subject& what, const inbound_writes& inbound, F&& may_put) {
        if (const auto* writer = std::get_if<incarnation>(&what))
            return may_put(*writer) || inbound.is_busy(*writer);
        if (const auto* over = std::get_if<attempt>(&what))
            return inbound.is_busy(*over);
        if (const auto* region = std::get_if<region_id>(&what))
            return inbound.is_busy(*region);
        return inbound.is_busy();
    }

private:
    std::vector<std::pair<subject, Answer>> waiting_;
};

} // namespace kvferry
