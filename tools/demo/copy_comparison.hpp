// SPDX-License-Identifier: Apache-2.0
// What one thread's memcpy makes of a transfer's pieces: a yardstick beside the transfer's rate.
#pragma once

#include <cstdint>

namespace kvferry::demo {

/// Seconds for `bytes` in `pieces` equal pieces, from scattered places of one shared mapping to
/// scattered places of another; the median of a few rounds, each over pieces that no cache holds
/// any more where the bytes allow it. Throws std::runtime_error without memory.
double seconds_of_copy(std::uint64_t bytes, std::uint64_t pieces);

} // namespace kvferry::demo
