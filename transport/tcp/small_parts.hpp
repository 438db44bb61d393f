// SPDX-License-Identifier: Apache-2.0
// Pieces that are too small to be handed to the kernel one by one: it takes longer to look at each
// than to copy it. Their bytes go between pages and stream through one buffer, which stays in the
// processor's cache.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace kvferry {

/// From here on the kernel's copy out of the pages costs less than ours into the buffer and its own
/// out of that (tools/bench/MEASURED.md).
inline constexpr std::size_t small_part_bytes = 1536;

/// Of this thread; what is in it belongs to whoever has asked last, until the next call of a wire.
inline std::span<std::byte> small_parts_buffer() {
    static thread_local std::array<std::byte, std::size_t{64} << 10> buffer;
    return buffer;
}

} // namespace kvferry
