// SPDX-License-Identifier: Apache-2.0
// Where two runs part: request by request and actor by actor, whatever the time.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct difference {
    std::uint64_t rid = 0;
    /// As lane::text() has it, in both runs; empty: the whole request is in one run only.
    std::string who;
    /// Steps of this actor for this request that are the same in both runs before it.
    std::size_t after = 0;
    /// What follows in each run; "nothing" when nothing does.
    std::string first;
    std::string second;
    /// Its time in a run that has it.
    std::int64_t time_ns = 0;
    /// Both did the same in the end, in another order.
    bool order_only = false;
};

/// One per actor and request at most, by time; those in order only come last. What belongs to no
/// request is not compared.
std::vector<difference> differences_of(const flow& first, const flow& second);

/// The first one as a sentence, and how many more there are.
std::string text_of(const std::vector<difference>&);

} // namespace kvferry::tracing
