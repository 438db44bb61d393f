// SPDX-License-Identifier: Apache-2.0
// Which reads and writes of a stream are long: another thread may make them (tcp_movers).
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvferry {

/// From so many bytes on a call is worth two wake-ups.
inline constexpr std::uint64_t long_call_bytes = std::uint64_t{128} << 10;

/// Most of one call into or out of pages: whoever wants its memory back may have to wait for that.
inline constexpr std::uint64_t call_bytes_max = std::uint64_t{512} << 10;

} // namespace kvferry
