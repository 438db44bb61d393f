// SPDX-License-Identifier: Apache-2.0
// A run in text: events with a column per actor, sequence diagrams.
#pragma once

#include "messages/values/duration_text.hpp"
#include "tools/trace/flow.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace kvferry::tracing {

/// One line per event, one column per actor with events; of one request or of all.
std::string event_lines(const flow&, std::optional<std::uint64_t> rid);

/// The messages of one request between its actors, down the page.
std::string sequence_text(const flow&, std::uint64_t rid);

/// The same as a Mermaid sequenceDiagram.
std::string sequence_mermaid(const flow&, std::uint64_t rid);

using kvferry::duration_text;
/// Of a trace's nanoseconds.
std::string duration_text(std::int64_t nanoseconds);

} // namespace kvferry::tracing
