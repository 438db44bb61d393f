// SPDX-License-Identifier: Apache-2.0
// What must be true of every run: no message is lost, nothing ends twice, no actors wait in a
// circle.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct finding {
    /// "failure", "message lost", "orphan", "double end", "no end", "loan not returned", "cycle of
    /// waits", ...
    std::string kind;
    std::string text;
    std::uint64_t rid = 0;
};

struct check_result {
    std::vector<finding> findings;
    std::uint64_t messages = 0;
    /// Messages that were sent but not handled for a known reason: their actor had ended, or the
    /// recording stopped first.
    std::uint64_t accounted = 0;
    /// Number of sessions that ended, by side.
    std::uint64_t context_sessions = 0;
    std::uint64_t generation_sessions = 0;
    /// Requests that were under way when a recording began, or when one ended before its process
    /// did. What is missing of them does not count as a finding.
    std::uint64_t cut = 0;
    /// Events that were overwritten before they were recorded. If there are any, a finding may be a
    /// gap in the recording.
    std::uint64_t lost_events = 0;

    bool ok() const { return findings.empty() && lost_events == 0; }
};

check_result check(const flow&);

} // namespace kvferry::tracing
