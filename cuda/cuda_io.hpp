// SPDX-License-Identifier: Apache-2.0
// The copy actor of one device: plans come as messages, chunks go to the device in turns by bytes,
// ends are found by polling while something is outstanding; otherwise its loop sleeps.
#pragma once

#include "cuda/copy_schedule.hpp"
#include "cuda/device/copy_device.hpp"
#include "messages/limits.hpp"
#include "messages/local/local_messages.hpp"
#include "transport/loop/io_loop.hpp"

#include <caf/actor_system.hpp>

#include <chrono>
#include <memory>

namespace kvferry {

struct cuda_io_options {
    copy_schedule_options schedule;
    /// Transfers whose plans are on the device at a time; more wait in order of arrival.
    std::size_t transfers_active_max = 64;
    /// Transfers that wait; more are refused by name.
    std::size_t transfers_waiting_max = 65536;
    /// Ordinal that it goes by in messages.
    int ordinal = 0;
    device_owner_actor owner = {};
    /// A stop waits this long for launches to end; then they are in doubt and their memory is kept.
    std::chrono::milliseconds stop_deadline = limits{}.stop_deadline;
};

/// Spawns the actor on its own loop, which outlives it. It owns the device from now on, and tells
/// `owner`, when there is one, that it is lost. system_call_failed when the loop cannot poll it.
///
/// A refused launch ends its transfer: FAILED, errc::cuda_failed, once what it had in flight has
/// ended. A lost device ends all transfers: IN_DOUBT those with launches that have not ended,
/// FAILED the others, and every later one FAILED with the reason.
/// A copy with device_events::wait_for holds up no other one; the event is polled. A mapping made
/// by map_peer_regions is closed when its last holder lets go of it, by a message to the actor.
caf::expected<device_actor> spawn_cuda_io(caf::actor_system&, io_loop&,
                                          std::unique_ptr<copy_device>, cuda_io_options = {});

} // namespace kvferry
