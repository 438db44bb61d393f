// SPDX-License-Identifier: Apache-2.0
// Kernel resources once two fabrics have done what was to be done.
#pragma once

#include "tests/support/open_resources.hpp"

#include <utility>

namespace kvferry::testing {

/// When neither side opens or closes anything any more.
template <class Pair>
resources resources_at_rest(Pair& pair) {
    auto last = open_resources();
    for (int still = 0; still < 200; ++still) {
        pair.probe.settle(pair.writer);
        pair.probe.settle(pair.target);
        if (const auto now = open_resources(); !(now == std::exchange(last, now)))
            still = 0;
    }
    return last;
}

} // namespace kvferry::testing
