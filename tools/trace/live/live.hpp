// SPDX-License-Identifier: Apache-2.0
// Finds the sockets of running processes and asks them. Never waits for a silent process.
#pragma once

#include "messages/errors.hpp"
#include "tools/trace/live/why.hpp"
#include "tools/trace/recording.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tracing {

/// A process that sends nothing for this long counts as silent.
inline constexpr std::chrono::seconds silence_max{3};

/// What one process sent.
struct live_process {
    std::string name;
    std::uint32_t process_id = 0;
    /// Events written into the recording; `bytes` is the size of its file.
    std::uint64_t events = 0;
    std::uint64_t bytes = 0;
    /// Why it stopped early: "is stopped by a signal", "died"; empty when it did not.
    std::string problem;
};

struct live_recording {
    std::vector<live_process> processes;
    std::uint64_t events = 0;
    std::chrono::milliseconds took{0};
    /// The limit ended the recording; later events are missing.
    bool limit_tripped = false;
};

/// Writes what all processes with a socket in `sockets` do from now on into RUN, one file per
/// process. Stops after the given time or number of events. Processes that start later are not
/// recorded. Fails when no process is found or RUN cannot be written.
caf::expected<live_recording> record_live(const std::string& sockets, const std::string& run,
                                          std::chrono::milliseconds time, std::uint64_t events_max);

/// What all processes know of a request now. Without a request: all sessions, and no events.
struct live_answers {
    std::vector<recording> recordings;
    std::vector<silent_process> silent;
};
caf::expected<live_answers> ask_live(const std::string& sockets, std::optional<std::uint64_t> rid);

} // namespace kvferry::tracing
