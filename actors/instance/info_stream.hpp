// SPDX-License-Identifier: Apache-2.0
// How frames follow each other on a TCP connection between info_link and a listener: each with its
// length in front, 4 bytes, big endian.
#pragma once

#include "messages/values/rank_info.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace kvferry {

using stream_length = std::array<caf::byte, 4>;

inline stream_length to_stream_length(std::size_t bytes) {
    stream_length result;
    for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = static_cast<caf::byte>(bytes >> 8 * (result.size() - 1 - i));
    return result;
}

inline std::size_t from_stream_length(const caf::byte* at) {
    std::size_t result = 0;
    for (std::size_t i = 0; i < sizeof(stream_length); ++i)
        result = result << 8 | caf::to_integer<std::size_t>(at[i]);
    return result;
}

} // namespace kvferry
