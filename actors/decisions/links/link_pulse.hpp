// SPDX-License-Identifier: Apache-2.0
// When a quiet link is asked whether its peer still hears, and when the peer counts as lost. A
// value: it knows no actor and no clock.
#pragma once

#include "messages/limits.hpp"
#include "messages/values/time.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace kvferry {

class link_pulse {
public:
    enum class step : std::uint8_t { rest, ask, lost };

    struct advice {
        step next = step::rest;
        time_point look_again;
    };

    link_pulse(const limits& bounds, time_point now)
        : interval_(std::max(bounds.link_health_interval, one)),
          idle_(std::max(bounds.link_idle_interval, one)),
          patience_(std::max(bounds.link_patience, one)), heard_(now), due_(now + interval_) {}

    /// The peer's next message has come, and was heard in its turn: the peer lives, and so does the
    /// order of its messages.
    void heard(time_point now) {
        heard_ = now;
        asked_.reset();
    }

    /// Somebody may have begun to wait for the peer. Returns when to look at the latest.
    time_point stirred(time_point now) { return due_ = std::min(due_, now + interval_); }

    /// To be called at `look_again`; an earlier call does no harm. `awaited`: somebody waits for
    /// this peer. A look that comes much too late says that this rank itself was held up: the
    /// peer's answers may be here, unread, so its silence begins anew.
    advice look(time_point now, bool awaited) {
        if (now > due_ + interval_)
            asked_.reset();
        if (asked_ && now - *asked_ >= patience_)
            return {step::lost, now};
        const auto period = awaited ? interval_ : idle_;
        const auto quiet_since = asked_ ? last_asked_ : heard_;
        auto result = step::rest;
        due_ = quiet_since + period;
        if (due_ <= now) {
            result = step::ask;
            last_asked_ = now;
            asked_ = asked_.value_or(now);
            due_ = now + period;
        }
        if (asked_)
            due_ = std::min(due_, *asked_ + patience_);
        return {result, due_};
    }

    time_point look_at() const { return due_; }

    clock::duration silence(time_point now) const { return now - heard_; }

private:
    static constexpr std::chrono::milliseconds one{1};

    clock::duration interval_;
    clock::duration idle_;
    clock::duration patience_;
    time_point heard_;
    /// The first question since then, and the last one.
    std::optional<time_point> asked_;
    time_point last_asked_;
    time_point due_;
};

} // namespace kvferry
