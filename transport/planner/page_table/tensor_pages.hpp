// SPDX-License-Identifier: Apache-2.0
// The page table of a cache that an engine keeps in tensors of its own.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/page_table/kv_tensor.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// Where memory begins, and how long it is.
struct memory_extent {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;

    friend bool operator==(const memory_extent&, const memory_extent&) = default;
};

/// The memory that the tensors lie in, ascending; tensors that share memory are in one extent.
caf::expected<std::vector<memory_extent>> extents_of(const std::vector<kv_tensor>&);

/// The page table of one rank with these tensors, in these regions. Tensors whose slots lie inside
/// each other's stride share a pool; roles with the same shape in it share a view.
/// invalid_argument names the tensor, what is wrong and what to do.
caf::expected<page_table> build_page_table(const std::vector<kv_tensor>&, const parallelism&,
                                           const std::vector<memory_extent>& regions);

} // namespace kvferry
