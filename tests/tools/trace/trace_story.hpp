// SPDX-License-Identifier: Apache-2.0
// Recordings written by hand for tests: one transfer between two processes, and variations with
// flaws.
#pragma once

#include "doctest/doctest.h"
#include "messages/trace/trace_format.hpp"
#include "tools/trace/recording.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

using trace::instant;
using tracing::recorded_event;
using tracing::recording;

/// Events of one process, a microsecond apart; each thread's actor has its own name and id.
class story {
public:
    story(std::string program, std::string machine, std::int64_t clock_ns = 0)
        : clock_ns_(clock_ns) {
        written_.path = program + ".kvtrace";
        written_.program = std::move(program);
        written_.machine = std::move(machine);
        written_.ended = "complete";
        written_.threads[1] = {written_.program + "/0", "loop", 0};
    }

    /// `at_us` is the time on a common clock; each process's own clock may differ from it.
    recorded_event& add(std::int64_t at_us, instant what, const char* actor, std::uint32_t id,
                        const char* message, std::uint64_t key = 0, std::uint64_t rid = 0) {
        recorded_event x;
        x.time_ns = at_us * 1000 + clock_ns_;
        x.what = what;
        x.actor = actor;
        x.actor_id = id;
        x.message = message;
        x.key = key;
        x.rid = rid;
        x.thread = 1;
        written_.events.push_back(x);
        return written_.events.back();
    }

    /// Actor `from` tells actor `to`, which handles it two microseconds later.
    void tell(std::int64_t at_us, const char* from, std::uint32_t from_id, const char* to,
              std::uint32_t to_id, const char* message, std::uint64_t key, std::uint64_t rid = 0) {
        add(at_us, instant::sent, from, from_id, message, key, rid).peer_id = to_id;
        add(at_us + 2, instant::dequeued, to, to_id, message, key, rid);
        add(at_us + 3, instant::done, to, to_id, message, key, rid);
    }

    recording& get() { return written_; }

private:
    std::int64_t clock_ns_;
    recording written_;
};

/// rid 7: the generation side asks, the context side copies 4096 bytes and reports. The context
/// side's clock is ahead by `skew_ns`.
inline std::vector<recording> one_transfer(std::int64_t skew_ns = 0,
                                           const std::string& other_machine = "here") {
    story generation{"generation", "here"};
    generation.add(0, instant::sent, "rx_session", 10, "send_message", 100, 7).peer_id = 11;
    generation.add(1, instant::dequeued, "peer_link", 11, "send_message", 100, 7);
    generation.add(2, instant::wire_sent, "peer_link", 11, "request_data", 9001, 7);
    generation.add(3, instant::done, "peer_link", 11, "send_message", 100, 7);
    generation.add(60, instant::dequeued, "peer_link", 11, "frame_arrived");
    generation.add(61, instant::wire_received, "peer_link", 11, "kv_agent_result", 9002, 7);
    generation.add(62, instant::sent, "peer_link", 11, "kv_agent_result", 101, 7).peer_id = 10;
    generation.add(63, instant::done, "peer_link", 11, "frame_arrived");
    generation.add(64, instant::dequeued, "rx_session", 10, "kv_agent_result", 101, 7);
    generation.add(65, instant::sent, "rx_session", 10, "session_finished", 0, 7);
    generation.add(66, instant::sent, "rx_session", 10, "session_released", 0, 7);
    generation.add(67, instant::done, "rx_session", 10, "kv_agent_result", 101, 7);
    story context{"context", other_machine, skew_ns};
    context.add(20, instant::dequeued, "peer_link", 21, "frame_arrived");
    context.add(21, instant::wire_received, "peer_link", 21, "request_data", 9001, 7);
    context.add(22, instant::sent, "peer_link", 21, "request_data", 200, 7).peer_id = 20;
    context.add(23, instant::done, "peer_link", 21, "frame_arrived");
    context.add(24, instant::dequeued, "tx_session", 20, "request_data", 200, 7);
    context.add(25, instant::sent, "tx_session", 20, "start_copy", 201).peer_id = 22;
    context.add(26, instant::done, "tx_session", 20, "request_data", 200, 7);
    context.add(27, instant::dequeued, "copy_io", 22, "start_copy", 201);
    context.add(28, instant::io_begin, "copy_io", 22, "copy (mapped)", 1).number = 4096;
    context.add(29, instant::done, "copy_io", 22, "start_copy", 201);
    context.add(40, instant::io_end, "copy_io", 22, "copy (mapped)", 1).number = 4096;
    context.add(41, instant::sent, "copy_io", 22, "transfer_done", 202).peer_id = 20;
    context.add(43, instant::dequeued, "tx_session", 20, "transfer_done", 202);
    context.add(44, instant::wire_sent, "peer_link", 21, "kv_agent_result", 9002, 7);
    context.add(45, instant::sent, "tx_session", 20, "session_finished", 0, 7);
    context.add(46, instant::sent, "tx_session", 20, "session_released", 0, 7);
    context.add(47, instant::done, "tx_session", 20, "transfer_done", 202);
    return {std::move(generation.get()), std::move(context.get())};
}

/// The events that this process recorded since `from` was made, as a file would hold them.
inline recording recorded_since(trace::collector& from) {
    trace::recording_encoder encoder;
    auto bytes = encoder.begin(trace::first_clock(), 1, "test", "here");
    for (const auto& part :
         {encoder.add(trace::clock_now(), from.collect()), encoder.end("complete")})
        bytes.insert(bytes.end(), part.begin(), part.end());
    auto read = tracing::read_recording(bytes, "test");
    REQUIRE(read);
    return std::move(*read);
}

} // namespace kvferry::testing
