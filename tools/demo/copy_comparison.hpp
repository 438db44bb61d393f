// SPDX-License-Identifier: Apache-2.0
// What one thread's memcpy makes of a transfer's pieces: a yardstick beside the transfer's rate.
#pragma once

#include <cstdint>

namespace kvferry::demo {

/// Seconds for copying `bytes` in `pieces` equal pieces, from scattered places of one shared
/// mapping to scattered places of another. The result is the median of a few rounds; if the pieces
/// are large enough, no round finds its pieces in a cache. Throws std::runtime_error when memory is
/// short.
double seconds_of_copy(std::uint64_t bytes, std::uint64_t pieces);

} // namespace kvferry::demo
