// SPDX-License-Identifier: Apache-2.0
// What a peer has offered on a same-host connection, made usable here.
#pragma once

#include "messages/local/device_chunks.hpp"
#include "messages/values/peer_view.hpp"
#include "transport/host_link/host_link_hello.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace kvferry {

struct offered_memory {
    std::vector<mapped_region> mapped;
    /// Why other regions that it offered are not mapped, by number.
    std::map<std::uint32_t, std::string> obstacles;
    /// Chunks of regions on its devices: whoever maps them needs their descriptors, which stay open
    /// while anybody holds them.
    std::map<std::uint32_t, device_chunks> chunks;
};

/// Maps host memory and sorts chunks. What cannot be used is left out with its reason: its bytes
/// take another route, and the connection still shows the peer's end.
offered_memory take_in(std::vector<offered_region>);

} // namespace kvferry
