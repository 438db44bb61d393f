// SPDX-License-Identifier: Apache-2.0
// Parts of a read or a write that are too small to be handed to the kernel one by one: it takes
// longer to look at each than to copy it. Their bytes go between pages and stream through a buffer
// of the thread that makes the call, which stays in its processor's cache.
#pragma once

#include "transport/tcp/byte_stream.hpp"

#include <cstddef>
#include <span>
#include <sys/uio.h>

namespace kvferry {

/// From here on the kernel's copy out of the pages costs less than ours into the buffer and its own
/// out of that (tools/bench/MEASURED.md).
inline constexpr std::size_t small_part_bytes = 1536;

/// Writes the parts in order, as many of them as the stream takes now. What has left comes with an
/// error behind it, too.
bytes_moved write_parts(byte_stream&, std::span<const iovec>);

/// Reads into the parts in order, as much as has come. What has come comes with the end behind it,
/// too, or an error.
bytes_moved read_parts(byte_stream&, std::span<const iovec>);

} // namespace kvferry
