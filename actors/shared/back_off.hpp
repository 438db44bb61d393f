// SPDX-License-Identifier: Apache-2.0
// How long to wait before asking again after a failure: doubled each time, with jitter, so that
// ranks that lost the same peer do not retry in step. A pure value.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"

#include <algorithm>
#include <chrono>
#include <random>

namespace kvferry {

class back_off {
public:
    static constexpr std::chrono::milliseconds shortest{10};
    static constexpr std::chrono::milliseconds longest{1000};

    /// Waits half of the time and a random part of the other half.
    template <class Random>
    void failed(time_point now, Random& random) {
        wait_ = wait_ == clock::duration::zero() ? clock::duration{shortest}
                                                 : std::min(2 * wait_, clock::duration{longest});
        std::uniform_int_distribution<clock::rep> drawn{0, wait_.count() / 2};
        until_ = now + wait_ / 2 + clock::duration{drawn(random)};
    }

    /// Do not ask again before this time.
    time_point until() const { return until_; }

private:
    clock::duration wait_{0};
    time_point until_{};
};

} // namespace kvferry
