// SPDX-License-Identifier: Apache-2.0
// One timer behind all the deadlines of an actor.
#pragma once

#include "actors/shared/deadline_queue.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/time.hpp"

#include <optional>

namespace kvferry {

/// Arms one deadline_tick for the earliest deadline of its owner. The owner calls rearm() after
/// every change of its queue and fired() when a tick arrives.
class tick_timer {
public:
    template <class Self>
    void rearm(Self* self, std::optional<time_point> next) {
        if (!next || (armed_ && *armed_ <= *next))
            return;
        armed_ = next;
        auto now = self->clock().now();
        auto wait = *next > now ? *next - now : clock::duration::zero();
        self->delayed_send(caf::actor_cast<typename Self::actor_hdl>(self->ctrl()), wait,
                           deadline_tick{});
    }

    /// A tick that a later rearm() has overtaken starts no further tick: otherwise such ticks would
    /// go on for ever.
    void fired(time_point now) {
        if (armed_ && *armed_ <= now)
            armed_.reset();
    }

private:
    std::optional<time_point> armed_;
};

} // namespace kvferry
