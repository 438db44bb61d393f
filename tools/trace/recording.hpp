// SPDX-License-Identifier: Apache-2.0
// Reads the recordings of a run, one file per process, and keeps whatever is readable.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace/trace.hpp"
#include "messages/trace/trace_format.hpp"
#include "messages/values/trace_parent.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::tracing {

/// trace::event with a time: nanoseconds of the process's monotonic clock.
struct recorded_event {
    std::int64_t time_ns = 0;
    std::string_view actor;
    std::string_view message;
    std::uint64_t rid = 0;
    std::uint64_t attempt = 0;
    std::uint64_t key = 0;
    std::uint32_t actor_id = 0;
    std::uint32_t peer_id = 0;
    std::uint64_t number = 0;
    std::uint32_t thread = 0;
    trace::instant what = trace::instant::sent;
};

struct recorded_thread {
    /// "context/0"; empty for threads that serve the whole process.
    std::string rank;
    std::string role;
    /// Events that were overwritten before they were recorded.
    std::uint64_t lost = 0;
};

/// One session is part of this span.
struct joined_trace {
    std::uint64_t rid = 0;
    trace_parent parent;
};

struct recording {
    std::string path;
    std::string program;
    /// The release that recorded; empty: one before releases were recorded.
    std::string version;
    /// Processes with the same text share a monotonic clock.
    std::string machine;
    std::uint32_t process_id = 0;
    /// "complete", or why the process wrote the recording; empty: the end is missing.
    std::string ended;
    /// In order within each thread; after join() they are in its steps.
    std::vector<recorded_event> events;
    /// How many there were, once they are joined.
    std::size_t event_count = 0;
    std::map<std::uint32_t, recorded_thread> threads;
    /// The recording began while the process ran: earlier events are missing.
    bool joined_late = false;
    std::vector<trace::rank_record> ranks;
    /// What sessions answered when they were asked.
    std::vector<trace::session_record> sessions;
    /// Requests that are part of an engine's own trace.
    std::vector<joined_trace> joined;
    /// Where its clock has 0, in nanoseconds since 1970; 0: not known.
    std::int64_t clock_began_at_ns = 0;
    /// What could not be read, as text for users.
    std::vector<std::string> problems;
    /// Storage of the texts that events point to.
    std::shared_ptr<std::deque<std::string>> names = std::make_shared<std::deque<std::string>>();

    std::uint64_t lost() const;
};

/// Reads everything that is undamaged. Fails only when nothing is: the file is not a recording, or
/// has another version.
caf::expected<recording> read_recording(std::span<const std::byte>, const std::string& path);

/// All *.kvtrace files of the folder, or the one file. Files that are not recordings are listed in
/// `problems`.
struct run_files {
    std::vector<recording> recordings;
    std::vector<std::string> problems;
};
caf::expected<run_files> read_run(const std::string& path);

} // namespace kvferry::tracing
