// SPDX-License-Identifier: Apache-2.0
// A fabric over TCP sockets alone, on this machine.
#pragma once

#include "transport/tcp/tcp_wire.hpp"
#include "transport/wires/spawn_fabric.hpp"

namespace kvferry::testing {

inline caf::expected<fabric_actor> spawn_tcp(caf::actor_system& system, io_loop& loop,
                                             fabric_dependencies with = {}, tcp_options how = {}) {
    how.self = with.self;
    how.bounds = with.bounds;
    if (how.listen.empty())
        how.listen = "127.0.0.1";
    return spawn_fabric(system, loop, std::move(with),
                        [&loop, how] { return make_tcp_wire(loop, how); });
}

} // namespace kvferry::testing
