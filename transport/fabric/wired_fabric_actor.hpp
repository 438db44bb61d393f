// SPDX-License-Identifier: Apache-2.0
// internal: a fabric as its devices, its wire and tests speak to it.
#pragma once

#include "messages/interfaces.hpp"

#include <caf/typed_actor.hpp>

namespace kvferry {

using wired_fabric_actor = fabric_actor::extend_with<completion_actor>::extend<
    // As if this frame had come over the wire.
    caf::result<void>(frame_arrived),
    // Something waits at the wire.
    caf::result<void>(deadline_tick),
    // For tests: this endpoint breaks now, as if the network had failed.
    caf::result<void>(endpoint_failed)>;

} // namespace kvferry
