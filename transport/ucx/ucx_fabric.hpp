// SPDX-License-Identifier: Apache-2.0
// How the layers above get a fabric over UCX: the only header of this folder that includes no UCX.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "transport/loop/io_loop.hpp"

#include <caf/expected.hpp>

#include <cstdint>
#include <string>

namespace kvferry {

/// How puts are carried out.
enum class put_method : std::uint8_t {
    /// By RMA where UCX has chosen a lane for it, else by messages.
    automatic,
    /// By messages that the target copies into place: every key and bound is checked there, and the
    /// death of either side costs the other nothing.
    messages,
    /// By RMA always. Where there is no RMA hardware UCX emulates it: no key is checked, and a
    /// writer that dies in the middle may take its target along (measured: transport/MEASURED.md).
    /// For tests.
    rma,
};

struct ucx_fabric_options {
    incarnation self;
    /// Gets the frames of peers to which no endpoint is open; may be null.
    frame_sink_actor default_sink;
    limits bounds;
    put_method puts = put_method::automatic;
    /// Counts bytes that are refused here; may be null.
    rank_counters_ptr counters = {};
    /// What UCX_NET_DEVICES would say; empty: all. The variable itself wins.
    std::string net_devices = {};
};

/// Makes the fabric on the loop. From another thread it waits for the loop, at most
/// limits::dial_deadline; on the loop's own thread it does not wait. An error says what UCX or the
/// system refused; then nothing is left.
caf::expected<fabric_actor> spawn_ucx_io(caf::actor_system&, io_loop&, ucx_fabric_options);

} // namespace kvferry
