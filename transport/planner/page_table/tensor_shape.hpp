// SPDX-License-Identifier: Apache-2.0
// What shape and strides of one tensor mean for a page table.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/page_table/kv_tensor.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

/// One role of one layer of a tensor: in each slot tensor_shape::buffer_bytes, together or in rows.
struct tensor_buffer {
    std::uint32_t layer = 0;
    std::string role;
    /// Address in slot 0.
    std::uint64_t address = 0;
};

struct tensor_shape {
    std::vector<tensor_buffer> buffers;
    std::uint64_t buffer_bytes = 0;
    /// With what lies between the rows.
    std::uint64_t extent_bytes = 0;
    role_layout layout;
    std::uint64_t slot_stride_bytes = 0;
    std::uint32_t slot_count = 0;
    /// None: a state.
    std::optional<std::uint32_t> tokens_per_slot;
};

/// Bytes from the tensor's address to the end of its last element.
caf::expected<std::uint64_t> extent_bytes_of(const kv_tensor&);

/// invalid_argument says what is wrong with the tensor and what to do, without its name.
caf::expected<tensor_shape> shape_of(const kv_tensor&, const parallelism&);

} // namespace kvferry
