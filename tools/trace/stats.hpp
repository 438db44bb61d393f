// SPDX-License-Identifier: Apache-2.0
// Where time goes: by actor and message, and along the critical path of each request.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct spread {
    std::int64_t p50_ns = 0;
    std::int64_t p99_ns = 0;
    std::int64_t max_ns = 0;
};

/// Of values in any order; all 0 without values.
spread spread_of(std::vector<std::int64_t>);

/// All messages of one name to one kind of actor, or all operations of one kind.
struct message_statistics {
    std::string actor;
    std::string message;
    std::uint64_t count = 0;
    /// From sent to dequeued; of operations 0.
    spread mailbox_wait;
    /// From dequeued to done, or from the beginning of an operation to its end.
    spread work;
    std::uint64_t bytes = 0;
};

/// One piece of a request's way to its outcome.
struct stage {
    /// "wait for receiver", "work of receiver", "wire", "copy (mapped)".
    std::string name;
    std::int64_t ns = 0;
};

struct request_statistics {
    std::uint64_t rid = 0;
    /// From the first step to the outcome on the generation side.
    std::int64_t total_ns = 0;
    std::uint64_t bytes = 0;
    /// Both sides are in the recordings, joined by messages of both directions.
    bool joined = false;
    /// Backwards from the outcome, each step to what caused it: they cover `path_ns` without gaps.
    std::vector<stage> stages;
    std::int64_t path_ns = 0;
};

struct run_statistics {
    std::vector<message_statistics> messages;
    /// Slowest first.
    std::vector<request_statistics> requests;
    std::uint64_t events = 0;
    std::uint64_t lost_events = 0;
    std::int64_t duration_ns = 0;

    std::uint64_t joined() const;
};

run_statistics statistics_of(const flow&);

} // namespace kvferry::tracing
