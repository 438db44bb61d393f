// SPDX-License-Identifier: Apache-2.0
// What every process that moves KV has for tracing besides its ring: a flight recorder, and a
// socket for `kvferry trace`.
#pragma once

#include "actors/observe/trace_endpoint.hpp"
#include "tools/common/flight_recorder.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kvferry::tools {

/// Starts a flight_recorder in its default folder. On failure it returns null and writes the reason
/// to standard error; the process can go on.
std::unique_ptr<flight_recorder>
start_flight_recorder(const std::string& name,
                      flight_recorder::sigterm = flight_recorder::sigterm::writes);

/// The same for a trace_endpoint that shows these ranks. The ranks must outlive it.
std::unique_ptr<trace_endpoint> start_trace_endpoint(const std::string& name,
                                                     const std::vector<const worker*>& ranks);

} // namespace kvferry::tools
