// SPDX-License-Identifier: Apache-2.0
// Which reads and writes of a stream are long: another thread may make them (tcp_movers).
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvferry {

/// Of one call into or out of pages: whoever wants its memory back may have to wait for that.
inline constexpr std::uint64_t call_bytes_max = std::uint64_t{512} << 10;

/// From so many bytes on a call is worth two wake-ups.
inline constexpr std::uint64_t long_call_bytes = std::uint64_t{128} << 10;

/// Each of its parts costs as much as so many bytes: small ones are copied twice, and come out of
/// the caches' reach one by one.
inline constexpr std::uint64_t part_costs_bytes = 512;

/// None below that is worth them, whatever its parts.
inline constexpr std::uint64_t long_call_bytes_min = long_call_bytes / 8;

inline bool is_long_call(std::uint64_t bytes, std::size_t parts) {
    return bytes >= long_call_bytes_min && bytes + parts * part_costs_bytes >= long_call_bytes;
}

} // namespace kvferry
