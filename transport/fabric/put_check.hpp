// SPDX-License-Identifier: Apache-2.0
// Checks a put before its first byte is posted: a plan that is wrong anywhere writes nowhere.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/rank_info.hpp"

#include <functional>

namespace kvferry {

/// How traces name a put that the fabric carries.

/// Where a region lies in its owner's memory.
struct target_region {
    std::uint64_t base_address = 0;
    std::uint64_t bytes = 0;
};

/// Looks up the region named by pool_base::region, or says why it cannot be written.
using find_target_region = std::function<caf::expected<target_region>(std::uint32_t region)>;

/// plan_invalid when the job's parts, pools and templates do not fit together or a target stretch
/// lies outside its region; otherwise the error of `find_target_region`. The cost grows with runs
/// per template and with slots, not with stretches.
caf::error check_put(const copy_job&, const find_target_region&);

/// Each region that the job writes, once, in order of first use.
std::vector<std::uint32_t> target_regions(const copy_job&);

} // namespace kvferry
