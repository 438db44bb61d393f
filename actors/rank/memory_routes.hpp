// SPDX-License-Identifier: Apache-2.0
// How writers of the same machine will reach a rank's memory, as far as its owner can know. Pure.
#pragma once

#include "messages/values/rank_info.hpp"
#include "messages/values/route.hpp"

#include <vector>

namespace kvferry {

/// One per region, with the reason why writers cannot map it; route::none when nothing reaches it.
/// A writer may have reasons of its own for a worse route.
std::vector<taken_route> memory_routes(const std::vector<memory_region>&, bool has_host_link);

} // namespace kvferry
