// SPDX-License-Identifier: Apache-2.0
// How long to leave somebody alone who did not answer: doubled with each failure, with jitter, so
// that ranks which lost the same peer do not come back in step. A pure value.
#pragma once

#include "messages/local/local_messages.hpp"

#include <algorithm>
#include <chrono>
#include <random>

namespace kvferry {

class back_off {
public:
    static constexpr std::chrono::milliseconds shortest{10};
    static constexpr std::chrono::milliseconds longest{1000};

    /// Half of the wait is certain, half is drawn.
    template <class Random>
    void failed(time_point now, Random& random) {
        wait_ = wait_ == clock::duration::zero() ? clock::duration{shortest}
                                                 : std::min(2 * wait_, clock::duration{longest});
        std::uniform_int_distribution<clock::rep> drawn{0, wait_.count() / 2};
        until_ = now + wait_ / 2 + clock::duration{drawn(random)};
    }

    /// Not to be asked again before.
    time_point until() const { return until_; }

private:
    clock::duration wait_{0};
    time_point until_{};
};

} // namespace kvferry
