// SPDX-License-Identifier: Apache-2.0
// Copies of stretches of memory, through the caches or past them.
#pragma once

#include <cstddef>

namespace kvferry {

/// memcpy that also prefetches the beginning of the next stretch (null: none), which is too far
/// away for the hardware to guess.
void copy_through_cache(void* to, const void* from, std::size_t bytes,
                        const void* next_from) noexcept;

/// For targets that are not in a cache: writes lines without reading them first. Reads the source
/// ahead, and `next_from` after its end (the next stretch, of about the same size; null: none).
/// Others see the bytes after finish_past_cache().
void copy_past_cache(void* to, const void* from, std::size_t bytes, const void* next_from) noexcept;

/// Orders what this thread wrote past the caches before its later writes.
void finish_past_cache() noexcept;

} // namespace kvferry
