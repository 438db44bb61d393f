// SPDX-License-Identifier: Apache-2.0
// Checks a put before its first byte is posted: a plan that is wrong anywhere writes nowhere.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/rank_info.hpp"

#include <functional>

namespace kvferry {

/// A region as a target of puts.
struct target_region {
    std::uint64_t base_address = 0;
    std::uint64_t bytes = 0;
};

/// The region behind pool_base::region, or why it cannot be written.
using find_target_region = std::function<caf::expected<target_region>(std::uint32_t region)>;

/// plan_invalid when the job's parts, pools and templates do not fit together or a target stretch
/// lies outside its region; else what the region's look-up said. Costs a look at each run of a
/// template and at each slot, not at each stretch.
caf::error check_put(const copy_job&, const find_target_region&);

/// Each region that the job writes, once, in order of first use.
std::vector<std::uint32_t> target_regions(const copy_job&);

} // namespace kvferry
