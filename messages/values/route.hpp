// SPDX-License-Identifier: Apache-2.0
// How the bytes of a plan travel.
#pragma once

#include "messages/inspect_enum.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvferry {

enum class route : std::uint8_t {
    /// There were no bytes, or nothing reaches that memory.
    none = 0,
    /// A copy loop or a kernel expands the plan straight into the peer's mapped pool.
    mapped = 1,
    /// One put per stretch, windowed, flushed once.
    direct = 2,
    /// Puts through pinned host memory: the source's device gathers into it, the target's device
    /// scatters out of it. One of the two may be absent.
    staged = 3,
};

inline constexpr std::size_t route_count = 4;

constexpr const char* name_of(route x) {
    return x == route::mapped   ? "mapped"
           : x == route::direct ? "direct"
           : x == route::staged ? "staged"
                                : "none";
}

inline std::string to_string(route x) {
    return name_of(x);
}

template <class Inspector>
bool inspect(Inspector& f, route& x) {
    return inspect_enum(f, x, route::staged);
}

/// The way that bytes took, or will take.
struct taken_route {
    route way = route::none;
    /// For people, and never read by code: "mapped by cuda:0", "direct: no same-host link".
    std::string text = {};
};

} // namespace kvferry
