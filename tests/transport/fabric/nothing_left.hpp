// SPDX-License-Identifier: Apache-2.0
// That two fabrics have given back what they took from the kernel. The other side of what one side
// closes is closed by its own loop, in its own time: so this waits for it, however long that takes.
#pragma once

#include "tests/support/open_resources.hpp"
#include "tests/transport/fabric/fabric_probe.hpp"

namespace kvferry::testing {

/// No more is open than there was, or becomes so.
template <class Pair>
bool is_down_to(const resources& most, Pair& pair) {
    const auto until = clock::now() + fabric_patience;
    for (;;) {
        const auto now = open_resources();
        if (now.descriptors <= most.descriptors && now.memfd_mappings <= most.memfd_mappings)
            return true;
        if (clock::now() >= until) {
            MESSAGE("there were ", most, ", there are ", now);
            return false;
        }
        pair.probe.settle(pair.writer);
        pair.probe.settle(pair.target);
    }
}

} // namespace kvferry::testing
