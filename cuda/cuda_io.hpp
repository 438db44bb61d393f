// SPDX-License-Identifier: Apache-2.0
// The copy actor of one device: plans come as messages, and chunks go to the device in turns by
// bytes. Polls for ends while something is in flight; otherwise its loop sleeps.
#pragma once

#include "cuda/copy_schedule.hpp"
#include "cuda/device/copy_device.hpp"
#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/values/ids.hpp"
#include "transport/loop/io_loop.hpp"

#include <caf/actor_system.hpp>

#include <chrono>
#include <memory>

namespace kvferry {

struct cuda_io_options {
    copy_schedule_options schedule;
    /// Transfers whose plans are on the device at a time, and a quarter more of the high class;
    /// more wait in turn (waiting_copies).
    std::size_t transfers_active_max = 64;
    /// Transfers that wait; more are refused with limit_exceeded.
    std::size_t transfers_waiting_max = 65536;
    /// Events that are waited for without a copy; more are refused with limit_exceeded.
    std::size_t events_awaited_max = 4096;
    /// The device's ordinal in messages.
    int ordinal = 0;
    device_owner_actor owner = {};
    /// A stop waits this long for launches to end; then they are in doubt and their memory is kept
    /// allocated.
    std::chrono::milliseconds stop_deadline = limits{}.stop_deadline;
};

/// Spawns the actor on its own loop, which must outlive it. The actor owns the device, and tells
/// `owner`, if there is one, when the device is lost. system_call_failed when the loop cannot poll
/// it.
///
/// A refused launch ends its transfer: FAILED with errc::cuda_failed, once its other launches have
/// ended. A lost device ends all transfers: IN_DOUBT those with launches in flight, FAILED the
/// others and every later one, with the reason. A copy with device_events::wait_for does not delay
/// other copies; its event is polled. A mapping made by map_peer_regions is closed by a message to
/// the actor when its last holder releases it.
caf::expected<device_actor> spawn_cuda_io(caf::actor_system&, io_loop&,
                                          std::unique_ptr<copy_device>, cuda_io_options = {});

} // namespace kvferry
