// SPDX-License-Identifier: Apache-2.0
// A part of a run: some requests, or some time of it. Pure.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace kvferry::tracing {

struct selection {
    std::optional<std::uint64_t> rid = {};
    /// Only the requests that took longest; 0: all.
    std::size_t slowest = 0;
    /// Times of steps, in nanoseconds from the first one.
    std::optional<std::int64_t> from_ns = {};
    std::optional<std::int64_t> to_ns = {};

    bool is_all() const { return !rid && slowest == 0 && !from_ns && !to_ns; }
};

/// The steps that are chosen, with those of their neighbours that are; times stay as they were.
flow select(flow, const selection&);

} // namespace kvferry::tracing
