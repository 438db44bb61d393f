// SPDX-License-Identifier: Apache-2.0
// Spans as the body of a request of OTLP over HTTP, in JSON (ExportTraceServiceRequest). Pure.
#pragma once

#include "messages/trace/span_queue.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

/// One body of all spans, grouped by rank.
std::string body_of(const std::vector<session_span>&, std::uint32_t process_id);

} // namespace kvferry
