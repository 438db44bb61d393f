// SPDX-License-Identifier: Apache-2.0
// The fabric's twin: the same fabric inside one process, without UCX, on any scheduler.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "transport/loop/resident.hpp"
#include "transport/loopback/loopback_network.hpp"

#include <memory>

namespace kvferry {

struct loopback_io_options {
    std::shared_ptr<loopback_network> network;
    incarnation self;
    /// Receives frames of peers to which no endpoint is open; may be null.
    frame_sink_actor default_sink;
    limits bounds;
    /// Counts bytes that are refused here; may be null.
    rank_counters_ptr counters = {};
};

/// Spawns a twin on the loop given by the placement, or on CAF's scheduler.
caf::expected<wired_fabric_actor> spawn_loopback_io(caf::actor_system&, placement,
                                                    loopback_io_options);

} // namespace kvferry
