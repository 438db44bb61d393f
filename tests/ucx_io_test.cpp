// SPDX-License-Identifier: Apache-2.0
// The UCX fabric keeps the fabric's promises over TCP loopback.
#include "transport/ucx_io.hpp"

#include "tests/fabric_conformance.hpp"
#include "tests/fabric_loops.hpp"

namespace kvferry::testing {

template <put_method method>
struct ucx_kit_by : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made = spawn_ucx_io(system(), loop(number), {self, sink, {}, method});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

using ucx_kit = ucx_kit_by<put_method::automatic>;

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::ucx_kit);
KVFERRY_FABRIC_CONFORMANCE(ucx_kit)
