// SPDX-License-Identifier: Apache-2.0
// Whether two buffers of an engine's tensors share bytes.
#pragma once

#include "transport/planner/layout/row_shape.hpp"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry {

/// The memory of one buffer in all slots.
struct buffer_memory {
    std::uint32_t region = 0;
    /// Of slot 0 in the region.
    std::uint64_t begin = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t slot_stride_bytes = 0;
    std::uint32_t slot_count = 0;
    row_shape rows;
    bool has_gaps = false;
    std::size_t tensor = 0;
};

/// Two buffers that are in use at the same time and share a byte, or whose slots do not lie side by
/// side: their tensors.
std::optional<std::pair<std::size_t, std::size_t>> find_shared(std::vector<buffer_memory>);

} // namespace kvferry
