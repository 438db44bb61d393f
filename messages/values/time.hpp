// SPDX-License-Identifier: Apache-2.0
// The one clock of a process: monotonic, and virtual in the simulation.
#pragma once

#include <chrono>

namespace kvferry {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;

} // namespace kvferry
