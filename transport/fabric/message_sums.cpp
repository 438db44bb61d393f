// SPDX-License-Identifier: Apache-2.0
// Chunk by chunk, so that what is added up is in the first cache.
#include "transport/fabric/message_sums.hpp"

#include "transport/planner/plan/word_sums.hpp"

#include <algorithm>

namespace kvferry {

void message_adder::add(std::uint64_t address, const void* from, std::uint64_t bytes,
                        const void* next) noexcept {
    const auto* at = static_cast<const char*>(from);
    for (std::uint64_t offset = 0; offset < bytes; offset += summed_chunk_bytes) {
        const auto here = std::min(summed_chunk_bytes, bytes - offset);
        const auto is_last = offset + here == bytes;
        const auto sum = sum_of_words(at + offset, here, key_of(address + offset, 0),
                                      is_last && next ? next
                                      : is_last       ? from
                                                      : at + offset + here);
        sums_.sum += sum;
        sums_.weighed += sum * ++chunks_;
    }
}

/// Where one chunk is wrong, the difference of the second sums is that of the first times its
/// number. Several that are wrong look so by chance alone.
damaged_bytes find_damage(const message_sums& said, const message_sums& came,
                          std::span<const placed_stretch> stretches) {
    const auto apart = said.sum - came.sum;
    const auto weighed = said.weighed - came.weighed;
    std::uint64_t number = 0;
    for (const auto& x : stretches)
        for (std::uint64_t offset = 0; offset < x.bytes; offset += summed_chunk_bytes)
            if (apart * ++number == weighed)
                return {x.address + offset, std::min(summed_chunk_bytes, x.bytes - offset)};
    return stretches.empty() ? damaged_bytes{}
                             : damaged_bytes{stretches.front().address, stretches.front().bytes};
}

} // namespace kvferry
