// SPDX-License-Identifier: Apache-2.0
// What a request waits for, from what the ranks of a deployment have said of it.
#pragma once

#include "tools/trace/deployment/lookout.hpp"
#include "tools/trace/live/why.hpp"

#include <cstddef>
#include <vector>

namespace kvferry::tracing {

/// The nearest cause comes first, as in waits_of(). Ranks that have said nothing take part as
/// silent ones.
std::vector<wait> waits_of(const std::vector<instance_view>&, rid);

/// How many ranks have answered, and how many there are.
struct asked_ranks {
    std::size_t told = 0;
    std::size_t all = 0;
};
asked_ranks asked_of(const std::vector<instance_view>&);

} // namespace kvferry::tracing
