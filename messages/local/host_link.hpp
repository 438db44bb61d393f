// SPDX-License-Identifier: Apache-2.0
// Same-host connections: shared regions, their mappings, the end of a peer's process.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/local/device_chunks.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <caf/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

/// `memfd` stays the caller's; it must live as long as the host_link actor, by `keep` or otherwise.
struct share_region {
    std::uint32_t region = 0;
    /// Or the descriptor of a device_chunk.
    int memfd = -1;
    std::uint64_t bytes = 0;
    /// Where it is mapped in this process: all that the loopback twin needs.
    std::byte* base = nullptr;
    std::shared_ptr<const void> keep = {};
};

/// The number under which the staging memory of a device is shared, beside those of the rank's
/// regions.
inline constexpr std::uint32_t staging_region(int ordinal) {
    return 0xffff0000u + static_cast<std::uint32_t>(ordinal);
}

struct host_link_dial {
    incarnation peer;
    std::string name;
    link_token token;
    std::chrono::milliseconds deadline;
    host_link_owner_actor owner;
    /// Version in which the two ranks speak.
    std::uint16_t protocol = protocol_version;
};

struct host_link_expect {
    incarnation peer;
    std::chrono::milliseconds deadline;
    host_link_owner_actor owner;
};

struct host_link_up {
    incarnation peer;
    std::vector<mapped_region> mapped;
    bool process_watched = false;
    /// Former owners waited for the end of this process; this one waits in their place.
    bool inherited = false;
    /// Why a region that the peer offered is not among `mapped`, by its number.
    std::map<std::uint32_t, std::string> obstacles = {};
    /// Regions on the peer's devices that this rank's devices can map chunk by chunk.
    std::map<std::uint32_t, device_chunks> chunks = {};
};

/// `duplicate` tells a former owner that another one waits for the end of the process in its place.
struct host_link_down {
    incarnation peer;
    caf::error reason;
};

struct host_link_close {
    incarnation peer;
    /// Close it only while it is this actor's; null: whoever owns it.
    host_link_owner_actor owner = {};
};

struct process_gone {
    incarnation peer;
};

} // namespace kvferry
