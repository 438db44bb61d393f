// SPDX-License-Identifier: Apache-2.0
// The recording format: how collected events become the bytes of a file. README.md has the layout.
#pragma once

#include "messages/trace/trace.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kvferry::trace {

inline constexpr std::string_view recording_magic = "kvftrace";
/// Raised with every change that a reader of the former version would misread.
inline constexpr std::uint32_t recording_version = 1;

/// Ends a recording that answers one question (`why`, `sessions`).
inline constexpr std::string_view ended_asked = "asked why";
/// Ends a recording whose process ended in order.
inline constexpr std::string_view ended_complete = "complete";
/// End a recording whose process goes on.
inline constexpr std::string_view ended_by_recorder = "the recorder stopped";
inline constexpr std::string_view ended_by_limit = "the limit of events";
inline constexpr std::string_view ended_by_process = "this process stopped serving traces";
/// Ends the recording of a process that was told to end (SIGTERM).
inline constexpr std::string_view ended_by_signal = "signal 15";

/// Whether a recording ended because something went wrong; `why` then says what.
constexpr bool ended_by_failure(std::string_view why) {
    for (auto in_order : {ended_asked, ended_complete, ended_by_recorder, ended_by_limit,
                          ended_by_process, ended_by_signal})
        if (why == in_order)
            return false;
    return !why.empty();
}

/// What a block holds. A reader skips kinds that it does not know.
enum class block : std::uint8_t {
    process = 1,
    name = 2,
    thread = 3,
    clock = 4,
    events = 5,
    end = 6,
    /// The process was running already: what happened before is missing.
    joined = 7,
    session = 8,
    rank = 9,
    version = 10,
    calendar = 11,
};

/// A rank of the process, as others find it.
struct rank_record {
    std::string rank;
    /// "host:port" of its instance's rank-info server.
    std::string info_endpoint;
    /// Ranks of its instance.
    std::uint32_t world_size = 0;
};

/// What a session says of itself when it is asked.
struct session_record {
    struct wait {
        std::string what;
        /// Who must act: "host", or an actor by its name in traces; `rank` is set when it is on
        /// another rank.
        std::string who;
        std::string rank;
    };
    std::string rank;
    /// "context" or "generation".
    std::string side;
    /// "TRANSFERRING", ...; "NONE" for a request without a session.
    std::string state;
    std::uint64_t rid = 0;
    std::uint64_t attempt = 0;
    /// When it was asked, and when its deadline ends it; CLOCK_MONOTONIC, 0: never.
    std::uint64_t now_ns = 0;
    std::uint64_t deadline_ns = 0;
    std::vector<wait> waits;
    /// When it was opened; 0: not said.
    std::uint64_t opened_ns = 0;
};

/// Bytes of a block before its payload: kind, length, checksum.
inline constexpr std::size_t block_head_bytes = 1 + 4 + 8;
inline constexpr std::size_t event_bytes = 57;

/// FNV-1a over kind and payload; detects damage, not tampering.
std::uint64_t checksum(std::uint8_t kind, const std::byte* data, std::size_t size) noexcept;

/// Encodes one file: each call returns the bytes that come next.
class recording_encoder {
public:
    /// Says which release of kvferry records. `machine` is the same text for processes whose
    /// monotonic clocks are one clock.
    std::vector<std::byte> begin(clock_pair first, std::uint32_t process_id,
                                 std::string_view program, std::string_view machine);
    std::vector<std::byte> add(clock_pair, const std::vector<thread_events>&);
    std::vector<std::byte> joined();
    std::vector<std::byte> rank(const rank_record&);
    std::vector<std::byte> session(const session_record&);
    /// `why`: "complete", or what made the process dump its rings.
    std::vector<std::byte> end(std::string_view why);

private:
    std::uint32_t number_of(const char* name, std::vector<std::byte>& into);

    std::unordered_map<const char*, std::uint32_t> names_;
    std::unordered_map<std::uint32_t, std::string> threads_;
};

} // namespace kvferry::trace
