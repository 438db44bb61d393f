// SPDX-License-Identifier: Apache-2.0
// The sessions of a run as spans of OpenTelemetry, in the JSON form of OTLP. Pure.
#pragma once

#include "tools/trace/flow.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <vector>

namespace kvferry::tracing {

/// Spans of one request body at most, so that a collector takes it.
inline constexpr std::size_t otlp_spans_max = 1000;

/// Bodies for POST /v1/traces (ExportTraceServiceRequest). A session is a span of its rank; its
/// operations are spans below it, and a context's session is one below the generation's. With a
/// traceparent (session_options) they belong to the engine's own trace, below its span; without one
/// a trace's id is made of the rid and of when the run began, so that a run gives the same spans
/// each time.
std::vector<nlohmann::json> otlp_of(const flow&);

} // namespace kvferry::tracing
