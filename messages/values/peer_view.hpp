// SPDX-License-Identifier: Apache-2.0
// What a rank knows of one peer once the handshake is done; immutable, shared by its sessions.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/link_terms.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

/// One of the peer's regions, addressable in this process.
struct mapped_region {
    /// `device` of memory that the CPU itself can address.
    static constexpr int by_host = -1;

    /// Index into the peer's list of regions.
    std::uint32_t region = 0;
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
    /// Keeps the mapping alive; copy jobs hold it too.
    std::shared_ptr<const void> mapping;
    /// Ordinal of the device whose kernels can address it; `base` is then valid for them only.
    int device = by_host;
};

struct peer_view {
    rank_info info;
    std::vector<memory_region> regions;
    endpoint_id endpoint;
    /// Regions that the same-host link has mapped for the host, and the rank's devices for
    /// themselves. A region may be here more than once.
    std::vector<mapped_region> mapped;
    /// Why the host has nothing mapped, for the result of a transfer and for `doctor`.
    std::string unmapped_reason;
    /// Why a device has not mapped a region, by device and region.
    std::map<std::pair<int, std::uint32_t>, std::string> device_obstacles;
    /// A pidfd of the peer's process is watched: process_gone will come when it ends.
    bool process_watched = false;
    /// Puts to this peer go by RMA hardware.
    bool by_rma = false;
    /// What the two ranks may say to each other.
    link_terms terms = {};
    /// False: it has been dialled. What it is asked goes right behind the introduction; whether it
    /// takes that is not known yet.
    bool has_answered = true;
    peer_link_actor link;
    /// Whoever waits for this peer holds a lock of it: the link then asks a peer that is quiet.
    std::weak_ptr<const void> awaited;
};

using peer_view_ptr = std::shared_ptr<const peer_view>;

} // namespace kvferry
