// SPDX-License-Identifier: Apache-2.0
// What the socket beside a ring carries: bells of one byte, and the reason when the reader closes.
#pragma once

#include <cstddef>

namespace kvferry {

/// Packets that are taken from the socket before others get their turn.
inline constexpr int packets_per_turn = 16;
/// Longest reason; it ends with a dot, so that it is longer than a bell.
inline constexpr std::size_t reason_bytes_max = 512;

} // namespace kvferry
