// SPDX-License-Identifier: Apache-2.0
// How the simulated kernel reaches an actor: what arrives waits here until the actor runs.
#pragma once

#include "messages/local/errand.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"

#include <caf/actor_addr.hpp>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>

#include <deque>
#include <functional>
#include <utility>

namespace kvferry::harness {

/// Understands deadline_tick as "look at your doorbell".
class doorbell {
public:
    template <class Handle>
    void attach(const Handle& actor) {
        ring_ = [address = actor.address()] {
            auto strong = caf::actor_cast<caf::strong_actor_ptr>(address);
            deadline_tick tick;
            if (strong && !hand_over(strong, tick))
                caf::anon_send(caf::actor_cast<Handle>(strong), tick);
        };
    }

    /// The actor runs `what` at its next turn; never, if it has ended.
    void push(std::function<void()> what) {
        waiting_.push_back(std::move(what));
        if (ring_)
            ring_();
    }

    /// For the actor: takes the oldest waiting item.
    void answer() {
        if (waiting_.empty())
            return;
        auto what = std::move(waiting_.front());
        waiting_.pop_front();
        what();
    }

    /// The process has ended.
    void silence() {
        ring_ = {};
        waiting_.clear();
    }

private:
    std::deque<std::function<void()>> waiting_;
    std::function<void()> ring_;
};

} // namespace kvferry::harness
