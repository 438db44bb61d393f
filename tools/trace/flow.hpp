// SPDX-License-Identifier: Apache-2.0
// A run as one story: the events of all processes on one clock, each with what caused it.
#pragma once

#include "tools/trace/recording.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

/// Of flow::steps; half as long as a size, because a large run has millions of steps.
using step_index = std::uint32_t;
inline constexpr step_index no_step = ~step_index{0};

/// An actor of a rank, or code of a thread outside any actor.
struct lane {
    std::size_t process = 0;
    std::uint32_t actor_id = 0;
    std::string actor;
    /// "context/0"; empty for actors that serve the whole process. They are named after the
    /// recording.
    std::string rank;
    std::string program;

    std::string text() const;
};

/// An event with its neighbours, as indices into flow::steps.
struct step : recorded_event {
    std::uint32_t process = 0;
    std::uint32_t lane = 0;
    /// For dequeued and wire_received: where the message was sent. For done: its dequeued. For
    /// answered: the question. For io_end: its io_begin.
    step_index cause = no_step;
    /// The opposite of `cause`. For sent, asked and wire_sent: where the message arrived. For
    /// dequeued: its done, ...
    step_index effect = no_step;
    /// For asked: where the answer was handled.
    step_index answer = no_step;
    /// The dequeued of the handler in which this happened, or the answered that started it.
    step_index handler = no_step;
};

struct flow {
    std::vector<recording> recordings;
    std::vector<std::int64_t> offsets_ns;
    std::vector<lane> lanes;
    /// Ordered by time. Times count from the first step, whose time on the first recording's clock
    /// was `start_ns`.
    std::vector<step> steps;
    std::int64_t start_ns = 0;

    std::uint64_t lost() const;
};

/// Joins the recordings of a run. Every step that belongs to a request gets its rid, even if its
/// message does not have it.
flow join(std::vector<recording>);

} // namespace kvferry::tracing
