// SPDX-License-Identifier: Apache-2.0
// One registration at a time; the next one after a random part of the period, sooner after a
// failure.
#include "actors/decisions/registration.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace kvferry {

registration::effects registration::on(event&& happened, time_point now) {
    return std::visit([this, now](auto& x) { return on(x, now); }, happened);
}

/// Waits half of the period and a random part of the other half.
registration::effects registration::on(registered&, time_point now) {
    effects result;
    if (std::exchange(unanswered_, std::nullopt))
        result.push_back(known_again{});
    displaced_since_.reset();
    std::uniform_int_distribution<clock::rep> drawn{0, (period_ / 2).count()};
    result.push_back(wake{now + period_ / 2 + clock::duration{drawn(random_)}});
    return result;
}

registration::effects registration::on(failed& x, time_point now) {
    effects result;
    if (code_of(x.reason) == errc::stale_incarnation) {
        if (!displaced_since_) {
            displaced_since_ = now;
            result.push_back(displaced{x.reason});
        }
        if (now - *displaced_since_ > replaced_after * period_)
            result.push_back(give_up{std::move(x.reason)});
        else
            result.push_back(wake{now + period_});
        return result;
    }
    if (!unanswered_) {
        unanswered_.emplace();
        result.push_back(unanswered{std::move(x.reason)});
    }
    unanswered_->failed(now, random_);
    result.push_back(wake{std::min(unanswered_->until(), now + period_)});
    return result;
}

} // namespace kvferry
