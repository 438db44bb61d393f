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

/// Percentiles of values in any order; all 0 without values.
spread spread_of(std::vector<std::int64_t>);

/// All messages of one name to one kind of actor, or all operations of one kind.
struct message_statistics {
    std::string actor;
    std::string message;
    std::uint64_t count = 0;
    /// From sent to dequeued; 0 for operations.
    spread mailbox_wait;
    /// From dequeued to done; for operations from begin to end.
    spread work;
    std::uint64_t bytes = 0;
};

/// One part of the time that a request took until its outcome.
struct stage {
    /// "wait for receiver", "work of receiver", "wire", "copy (mapped)".
    std::string name;
    std::int64_t ns = 0;
};

struct request_statistics {
    std::uint64_t rid = 0;
    /// From the generation host's first call to the outcome there. Without that call: from the
    /// first step.
    std::int64_t total_ns = 0;
    std::uint64_t bytes = 0;
    /// The recordings contain both sides, and messages between them in both directions.
    bool joined = false;
    /// Found backwards from the outcome, from each step to its cause. Together they take
    /// `total_ns`, without gaps. If the chain begins with a later call of a host, the time before
    /// it is "host, until its host_send".
    std::vector<stage> stages;
    /// The part of `stages` before the first known cause: the recordings do not explain it.
    std::int64_t unexplained_ns = 0;
    /// The critical path as indices of steps, from its first cause to the outcome.
    std::vector<std::size_t> path = {};
};

struct run_statistics {
    std::vector<message_statistics> messages;
    /// Slowest first.
    std::vector<request_statistics> requests;
    std::uint64_t events = 0;
    std::uint64_t lost_events = 0;
    std::int64_t duration_ns = 0;

    std::uint64_t joined() const;
    /// How far the sum of a request's stages differs from the whole at most, as a fraction of the
    /// whole.
    double sum_error = 0;
    /// Requests with at most 2 % unexplained time.
    std::uint64_t explained = 0;
};

run_statistics statistics_of(const flow&);

} // namespace kvferry::tracing
