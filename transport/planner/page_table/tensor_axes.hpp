// SPDX-License-Identifier: Apache-2.0
// The dimensions of one tensor by name, with the strides that they have.
#pragma once

#include "messages/errors.hpp"
#include "transport/planner/page_table/kv_tensor.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kvferry {

/// One dimension; an absent one has one index.
struct tensor_axis {
    bool is_there = false;
    std::uint64_t count = 1;
    /// In elements.
    std::uint64_t stride = 0;
    /// In dims.
    std::size_t position = 0;

    std::uint64_t extent() const { return count * stride; }
};

struct tensor_axes {
    enum name : std::size_t { kv, layer, block, token, head, dim, inner, name_count };

    static constexpr std::array<std::string_view, name_count> names = {
        "kv", "layer", "block", "token", "head", "dim", "inner"};

    std::array<tensor_axis, name_count> all;
    /// From the element whose indexes are all 0 to the end of the last.
    std::uint64_t extent_elements = 0;

    const tensor_axis& operator[](name x) const { return all[x]; }
};

/// Reads dims, shape and strides of a tensor, and cuts its tokens into blocks where it does not.
/// Afterwards there are a block and a dim, no two elements share a byte, all of a block lies inside
/// the block's stride, and distances in bytes are below 2^47. invalid_argument says what is wrong
/// and what to do.
caf::expected<tensor_axes> axes_of(const kv_tensor&, std::uint64_t element_bytes);

} // namespace kvferry
