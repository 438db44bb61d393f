// SPDX-License-Identifier: Apache-2.0
// What every process of the program that moves KV has besides its ring: last words, and a socket to
// look in.
#pragma once

#include "actors/observe/trace_endpoint.hpp"
#include "tools/common/flight_recorder.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kvferry::tools {

/// A flight_recorder in its default folder. Without one the process works all the same: null, and
/// standard error has the reason.
std::unique_ptr<flight_recorder> start_flight_recorder(const std::string& name);

/// The same for a trace_endpoint about these ranks, which outlive it.
std::unique_ptr<trace_endpoint> start_trace_endpoint(const std::string& name,
                                                     const std::vector<const worker*>& ranks);

} // namespace kvferry::tools
