// SPDX-License-Identifier: Apache-2.0
// A fabric over UCX alone.
#pragma once

#include "transport/ucx/ucx_wire.hpp"
#include "transport/wires/spawn_fabric.hpp"

namespace kvferry::testing {

inline caf::expected<fabric_actor> spawn_ucx(caf::actor_system& system, io_loop& loop,
                                             fabric_dependencies with = {},
                                             put_method puts = put_method::automatic) {
    return spawn_fabric(system, loop, std::move(with),
                        [&loop, puts] { return make_ucx_wire(loop, {.puts = puts}); });
}

} // namespace kvferry::testing
