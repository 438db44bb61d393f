// SPDX-License-Identifier: Apache-2.0
// The span of an engine's own trace under which a request runs: W3C's `traceparent`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvferry {

struct trace_parent {
    /// The trace's id, its first 8 bytes and its last; not 0 together.
    std::uint64_t trace_high = 0;
    std::uint64_t trace_low = 0;
    /// Not 0.
    std::uint64_t span = 0;
    /// Bit 0: sampled.
    std::uint8_t flags = 0;

    friend bool operator==(const trace_parent&, const trace_parent&) = default;
};

/// Reads "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01". nullopt for what the
/// recommendation calls invalid; of a version above 00 it reads what it knows.
std::optional<trace_parent> parse_trace_parent(std::string_view);

/// As version 00 writes it.
std::string to_string(const trace_parent&);

template <class Inspector>
bool inspect(Inspector& f, trace_parent& x) {
    return f.object(x).fields(f.field("trace_high", x.trace_high),
                              f.field("trace_low", x.trace_low), f.field("span", x.span),
                              f.field("flags", x.flags));
}

} // namespace kvferry
