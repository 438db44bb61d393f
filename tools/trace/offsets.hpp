// SPDX-License-Identifier: Apache-2.0
// How far the processes' clocks are apart, worked out from the messages between them.
#pragma once

#include "tools/trace/recording.hpp"

#include <cstdint>
#include <vector>

namespace kvferry::tracing {

/// Nanoseconds to add to each recording's times. A message never arrives before it was sent: with
/// messages both ways that bounds an offset from both sides. Clocks of one machine are left alone
/// when the bounds allow it, others are set to the middle. Without messages the offset is 0.
std::vector<std::int64_t> estimate_offsets(const std::vector<recording>&);

} // namespace kvferry::tracing
