// SPDX-License-Identifier: Apache-2.0
// Which actor runs on this thread and what it just sent: how events get their ids.
#pragma once

#include <caf/actor_control_block.hpp>
#include <caf/fwd.hpp>
#include <caf/local_actor.hpp>

namespace kvferry::trace {

/// Set while a resident actor runs; null for actors without a home, whose events have no ids.
inline constinit thread_local const caf::local_actor* running_actor = nullptr;

/// As actor.id(), which is a call.
inline caf::actor_id id_of(const caf::abstract_actor& actor) {
    return caf::actor_control_block::from(&actor)->id();
}

/// The last that this thread sent to a resident. Its address identifies it until it has been
/// handled.
struct delivery {
    const void* mail = nullptr;
    caf::actor_id to = 0;
};
inline constinit thread_local delivery last_delivery{};

} // namespace kvferry::trace
