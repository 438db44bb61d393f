// SPDX-License-Identifier: Apache-2.0
// Device memory made of physical chunks (VMM): each chunk as a descriptor for other processes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace kvferry {

struct device_chunk {
    /// A shareable handle of the driver, of type POSIX file descriptor.
    int descriptor = -1;
    std::uint64_t bytes = 0;
    /// Closes the descriptor.
    std::shared_ptr<const void> keep = {};
};

/// In the order of their addresses, without a gap.
using device_chunks = std::vector<device_chunk>;

/// Chunks of one region at most, and regions with chunks: both must fit into a number that a
/// same-host link gives to what it passes on.
inline constexpr std::uint32_t device_chunks_max = 1u << 16;
inline constexpr std::uint32_t chunked_regions_max = 1u << 14;

/// The number under which a chunk is shared, beside those of whole regions (below) and of staging
/// memory (above). A release that does not know chunks takes it for one more region, one that
/// cannot be mapped.
inline constexpr std::uint32_t device_chunk_number(std::uint32_t region, std::uint32_t chunk) {
    return 0x80000000u | (region << 16) | chunk;
}

inline constexpr bool is_device_chunk(std::uint32_t number) {
    return number >> 30 == 2;
}

inline constexpr std::uint32_t region_of_chunk(std::uint32_t number) {
    return (number & 0x3fffffffu) >> 16;
}

} // namespace kvferry
