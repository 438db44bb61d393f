// SPDX-License-Identifier: Apache-2.0
// Copies of stretches of memory, through the caches or past them.
#pragma once

#include <cstddef>

namespace kvferry {

/// memcpy that fetches the beginning of the next stretch meanwhile (null: there is none): one far
/// away, which the hardware does not guess.
void copy_through_cache(void* to, const void* from, std::size_t bytes,
                        const void* next_from) noexcept;

/// For targets that are in no cache: the lines are written without being read first, while the
/// source is read ahead, into `next_from` when this stretch ends (the next one, of about the same
/// size; null: there is none). Others see the bytes after finish_past_cache().
void copy_past_cache(void* to, const void* from, std::size_t bytes, const void* next_from) noexcept;

/// Everything that this thread wrote past the caches is visible before what it writes from now on.
void finish_past_cache() noexcept;

} // namespace kvferry
