// SPDX-License-Identifier: Apache-2.0
// Copies between mapped memory, and the end of every transfer.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/plan_digest.hpp"
#include "messages/values/priority.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/header.hpp"

#include <caf/error.hpp>

#include <chrono>
#include <cstdint>
#include <optional>

namespace kvferry {

/// Events of the host's own CUDA streams, as cudaEvent_t; they must live until the piece has ended.
struct device_events {
    /// No byte is read before this event has happened.
    void* wait_for = nullptr;
    /// Recorded on the copying stream behind the piece's last read. A stream that waits for it
    /// before it was recorded waits for nothing.
    void* completed = nullptr;
};

/// All addresses of `job` are addresses of this process.
struct start_copy {
    transfer_id id;
    copy_job job;
    completion_actor reply_to;
    /// For copies on a device only.
    device_events events = {};
    /// Between twins of the fabric only: start_put::attempt.
    kvferry::attempt attempt = {};
    flow of = {};
    /// Make a digest of what is read, as this share of it.
    std::optional<digest_share> digest = {};
    /// Write nothing: the digest is all.
    bool read_only = false;
};

/// copy_io to itself: the next piece.
struct copy_step {};

struct cancel_transfer {
    transfer_id id;
};

/// Where in the peer's memory bytes of a put were to go that were not those that left.
struct damaged_bytes {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
};

/// Exactly one per started transfer, and never while the operation may still read its source.
/// SUCCESS: all bytes visible at the target. FAILED: nothing in flight any more. IN_DOUBT: bytes
/// may still arrive at the target.
struct transfer_done {
    transfer_id id;
    agent_result result = agent_result::success;
    std::uint64_t bytes = 0;
    caf::error error;
    /// First byte posted or copied, and end.
    time_point began;
    time_point ended;
    /// What the executor did before the first byte; waiting for its turn is none of it.
    std::chrono::nanoseconds posting{0};
    /// Of a copy that succeeded, when one was asked for and can be made.
    std::optional<plan_digest> digest = {};
    /// With errc::digest_mismatch.
    std::optional<damaged_bytes> damaged = {};
};

struct stop_io {};

} // namespace kvferry
