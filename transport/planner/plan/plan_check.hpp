// SPDX-License-Identifier: Apache-2.0
// The check that every plan must pass before it is executed: no byte outside a region, no byte
// written twice.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"

#include <vector>

namespace kvferry {

/// plan_invalid unless
///   - the sums of bytes and fragments are those of the parts,
///   - every slot is one of its pool's, and every byte read or written lies in the pool's region,
///   - no slot of a target pool is written twice by templates that have a byte in common.
/// The page tables must have passed check_page_table, as all that went through make_plan have.
/// Regions are those that the rank has registered, in its own order; only their sizes are read.
caf::error check_plan(const copy_plan&, const page_table& source,
                      const std::vector<memory_region>& source_regions, const page_table& target,
                      const std::vector<memory_region>& target_regions);

} // namespace kvferry
