// SPDX-License-Identifier: Apache-2.0
// A run in the trace-event format, which the Perfetto UI and chrome://tracing open as it is.
#pragma once

#include "tools/trace/flow.hpp"

#include <nlohmann/json.hpp>

#include <iosfwd>
#include <string>
#include <vector>

namespace kvferry::tracing {

/// {"traceEvents": [...]}: a rank is a process, an actor a thread, a handler a slice; an arrow goes
/// from every send to its handling; counters say how many messages wait and how many bytes move.
/// Written event by event: the file takes no memory.
void write_perfetto(std::ostream&, const flow&);

/// Violations of the trace-event format in this file; empty when it is correct.
std::vector<std::string> problems_of_perfetto(const nlohmann::json&);

} // namespace kvferry::tracing
