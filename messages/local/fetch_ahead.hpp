// SPDX-License-Identifier: Apache-2.0
// Memory that is looked at soon: beside very many sessions what one of them has lies in no cache,
// and many lines are brought near in the time in which one is waited for.
#pragma once

#include <cstddef>

namespace kvferry {

/// Only a hint: nothing is read, and any address will do.
inline void fetch_ahead(const void* from, std::size_t bytes) {
    constexpr std::size_t line_bytes = 64;
    for (std::size_t offset = 0; offset < bytes; offset += line_bytes)
        __builtin_prefetch(static_cast<const std::byte*>(from) + offset);
}

} // namespace kvferry
