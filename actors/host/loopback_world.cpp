// SPDX-License-Identifier: Apache-2.0
// The world's one actor: the info link that knows every server in it.
#include "actors/host/loopback_world.hpp"

#include "actors/instance/loopback_info_link.hpp"

#include <caf/send.hpp>

namespace kvferry {

loopback_world::loopback_world(caf::actor_system& system)
    : info_link_(spawn_loopback_info_link(system, placement{}, {})) {}

loopback_world::~loopback_world() {
    caf::anon_send_exit(info_link_, caf::exit_reason::kill);
}

} // namespace kvferry
