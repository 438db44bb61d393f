// SPDX-License-Identifier: Apache-2.0
// A run as one story: the events of all processes on one clock, each with what caused it.
#pragma once

#include "tools/trace/recording.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

inline constexpr std::size_t no_step = static_cast<std::size_t>(-1);

/// An actor of a rank, or a thread's code that is no actor.
struct lane {
    std::size_t process = 0;
    std::uint32_t actor_id = 0;
    std::string actor;
    /// "context/0"; empty for what serves the whole process, which is called as its recording is.
    std::string rank;
    std::string program;

    std::string text() const;
};

/// An event with its neighbours, as indices into flow::steps.
struct step : recorded_event {
    std::size_t process = 0;
    std::size_t lane = 0;
    /// Of dequeued and wire_received: where it was sent. Of done: its dequeued. Of answered: the
    /// question. Of io_end: its io_begin.
    std::size_t cause = no_step;
    /// The way back: of sent, asked and wire_sent where it arrived, of dequeued its done, ...
    std::size_t effect = no_step;
    /// Of asked: where its answer was handled.
    std::size_t answer = no_step;
    /// The dequeued of the handler that this happened in, or the answered that set it off.
    std::size_t handler = no_step;
};

struct flow {
    std::vector<recording> recordings;
    std::vector<std::int64_t> offsets_ns;
    std::vector<lane> lanes;
    /// In the order of time; times count from the first one, which was at `start_ns` of the first
    /// recording's clock.
    std::vector<step> steps;
    std::int64_t start_ns = 0;

    std::uint64_t lost() const;
};

/// Takes what the recordings say; steps that belong to a request get its rid, whether their message
/// has it or not.
flow join(std::vector<recording>);

} // namespace kvferry::tracing
