// SPDX-License-Identifier: Apache-2.0
// How long something took, or has taken so far, as a person reads it.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

namespace kvferry {

/// In the unit in which it has one to three digits before the point, three in all: "950 ns",
/// "1.23 us", "12.3 ms", "9.90 s", "119 s"; from ten minutes on "62 min 5 s".
inline std::string duration_text(std::chrono::nanoseconds time) {
    const auto ns = time.count();
    if (ns < 0)
        return duration_text(-time).insert(0, 1, '-');
    constexpr std::int64_t second = 1'000'000'000;
    char text[40];
    if (ns >= 600 * second) {
        std::snprintf(text, sizeof text, "%lld min %lld s",
                      static_cast<long long>(ns / second / 60),
                      static_cast<long long>(ns / second % 60));
        return text;
    }
    struct {
        std::int64_t ns;
        const char* name;
    } unit{1, "ns"};
    for (const auto& [size, name] :
         {std::pair{second, "s"}, {second / 1000, "ms"}, {std::int64_t{1000}, "us"}})
        if (ns >= size) {
            unit = {size, name};
            break;
        }
    const auto value = static_cast<double>(ns) / static_cast<double>(unit.ns);
    const auto places = unit.ns == 1 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    std::snprintf(text, sizeof text, "%.*f %s", places, value, unit.name);
    return text;
}

} // namespace kvferry
