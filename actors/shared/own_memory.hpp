// SPDX-License-Identifier: Apache-2.0
// What a rank's memory is made of and how it may be reached, as routes and checks see it. Pure.
#pragma once

#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

/// One of the rank's own regions, as the choice of a route sees it.
struct own_region {
    memory_kind kind = memory_kind::host_private;
    /// Of memory on a device: its ordinal.
    int device = mapped_region::by_host;
    /// Of host memory: why the rank's devices cannot address it; empty when they can.
    std::string unpinned_reason;
};

/// What a rank can copy from and with.
struct own_memory {
    /// In the order of the rank's regions.
    std::vector<own_region> regions;
    /// Pool to region, in the order of the rank's page table.
    std::vector<std::uint32_t> region_of_pool;
    /// Ordinals of the rank's devices.
    std::vector<int> devices;
};

/// No region lies on a device.
inline bool readable_by_host(const own_memory& own) {
    return std::none_of(own.regions.begin(), own.regions.end(),
                        [](const own_region& region) { return region.kind == memory_kind::cuda; });
}

} // namespace kvferry
