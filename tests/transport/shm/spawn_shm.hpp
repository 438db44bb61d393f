// SPDX-License-Identifier: Apache-2.0
// A fabric over shared memory alone.
#pragma once

#include "transport/shm/shm_wire.hpp"
#include "transport/wires/spawn_fabric.hpp"

namespace kvferry::testing {

inline caf::expected<fabric_actor> spawn_shm(caf::actor_system& system, io_loop& loop,
                                             fabric_dependencies with = {},
                                             shm_wire_options options = {}) {
    return spawn_fabric(system, loop, std::move(with),
                        [&loop, options] { return make_shm_wire(loop, options); });
}

} // namespace kvferry::testing
