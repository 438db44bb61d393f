// SPDX-License-Identifier: Apache-2.0
// What the copy actor of a device is asked beside copies: exports, pinned memory, mappings.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <caf/error.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace kvferry {

/// `base` is an address on the device, inside an allocation of the host.
struct export_device_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
};

struct device_region_exported {
    device_export how;
};

struct pin_host_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
};

/// `by_host` are those regions that the host has mapped.
struct map_peer_regions {
    incarnation peer;
    std::vector<memory_region> regions;
    std::vector<mapped_region> by_host;
};

/// `obstacles` has the regions that the device cannot address, and why.
struct peer_regions_mapped {
    std::vector<mapped_region> mapped;
    std::map<std::uint32_t, std::string> obstacles;
};

/// From the last holder of a mapping to the actor that made it.
struct unmap_region {
    std::uint64_t mapping = 0;
};

struct device_lost {
    int device = 0;
    caf::error reason;
};

} // namespace kvferry
