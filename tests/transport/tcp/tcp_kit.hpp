// SPDX-License-Identifier: Apache-2.0
// Two fabrics over TCP without a secret, as a kit of the conformance suites.
#pragma once

#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/tcp/spawn_tcp.hpp"

namespace kvferry::testing {

template <std::size_t bulk_sockets>
struct tcp_kit_with : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made =
            spawn_tcp(system(), loop(number), {.self = self, .default_sink = sink, .bounds = {}},
                      {.bulk_sockets = bulk_sockets});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

using tcp_kit = tcp_kit_with<1>;

} // namespace kvferry::testing
