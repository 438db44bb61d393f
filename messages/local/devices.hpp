// SPDX-License-Identifier: Apache-2.0
// What the copy actor of a device is asked beside copies: exports, pinned memory, mappings.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/local/device_chunks.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <caf/error.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
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
    /// For memory that has no handle, when its chunks have descriptors.
    device_chunks chunks = {};
};

struct pin_host_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
};

/// `by_host` are those regions that the host has mapped; `chunks` came over the same-host link.
struct map_peer_regions {
    incarnation peer;
    std::vector<memory_region> regions;
    std::vector<mapped_region> by_host;
    std::map<std::uint32_t, device_chunks> chunks = {};
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

/// A cudaEvent_t of the host; it must live until the answer, which is `cancelled` soon after nobody
/// holds `wanted` any more.
struct await_event {
    void* event = nullptr;
    std::weak_ptr<const void> wanted;
};

struct device_lost {
    int device = 0;
    caf::error reason;
};

} // namespace kvferry
