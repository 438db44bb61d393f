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
    /// From the generation host's first call, or else the first step, to the outcome there.
    std::int64_t total_ns = 0;
    std::uint64_t bytes = 0;
    /// Both sides are in the recordings, joined by messages of both directions.
    bool joined = false;
    /// Backwards from the outcome, each step to what caused it: together `total_ns`, without gaps.
    /// When the way begins with a later call of a host, what was before is "host, until its
    /// host_send".
    std::vector<stage> stages;
    /// Of them, what is in front of the first cause that is known: the recordings do not explain
    /// it.
    std::int64_t unexplained_ns = 0;
};

struct run_statistics {
    std::vector<message_statistics> messages;
    /// Slowest first.
    std::vector<request_statistics> requests;
    std::uint64_t events = 0;
    std::uint64_t lost_events = 0;
    std::int64_t duration_ns = 0;

    std::uint64_t joined() const;
    /// The largest difference between the sum of a request's stages and the whole, in parts of it.
    double sum_error = 0;
    /// Requests of which at most a fiftieth is unexplained.
    std::uint64_t explained = 0;
};

run_statistics statistics_of(const flow&);

} // namespace kvferry::tracing
