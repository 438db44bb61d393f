// SPDX-License-Identifier: Apache-2.0
// Where two runs differ: request by request and actor by actor. Times are ignored.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct difference {
    std::uint64_t rid = 0;
    /// The actor as lane::text() names it, in both runs; empty: only one run has the request.
    std::string who;
    /// How many steps of this actor for this request are the same in both runs before the
    /// difference.
    std::size_t after = 0;
    /// The next step in each run; "nothing" when there is none.
    std::string first;
    std::string second;
    /// The time of the difference in a run that has the step.
    std::int64_t time_ns = 0;
    /// Both runs have the same steps in a different order.
    bool order_only = false;
};

/// At most one per actor and request, by time; differences in order only come last. Steps that
/// belong to no request are not compared.
std::vector<difference> differences_of(const flow& first, const flow& second);

/// The first difference as a sentence, and how many more there are.
std::string text_of(const std::vector<difference>&);

} // namespace kvferry::tracing
