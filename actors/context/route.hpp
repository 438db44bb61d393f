// SPDX-License-Identifier: Apache-2.0
// How the bytes of one plan go: the choice of a route, with its reason. Pure.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <string>

namespace kvferry {

enum class route : std::uint8_t {
    /// A copy loop or a kernel expands the plan straight into the peer's mapped pool.
    mapped = 0,
    /// One RMA put per stretch, windowed, flushed once.
    direct = 1,
    /// Puts through pinned host memory: into it the source's device gathers, out of it the target's
    /// device scatters, whichever of the two there is.
    staged = 2,
};

/// What a host asks for; automatic takes the best route that works.
enum class route_choice : std::uint8_t { automatic = 0, mapped = 1, direct = 2, staged = 3 };

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
bool readable_by_host(const own_memory&);

struct routed {
    route taken = route::direct;
    /// Who copies, or gathers, on this side: a device or the host.
    int device = mapped_region::by_host;
    /// "mapped", "mapped by cuda:0", "direct: no same-host link: ...", "staged by cuda:0: ...",
    /// "staged into device memory: ...": for results, logs and `doctor`.
    std::string text;
    /// Target pools as the route's executor addresses them.
    std::vector<pool_base> target_pools;
    /// Mappings that the job must keep alive.
    std::vector<std::shared_ptr<const void>> holds;
};

std::string to_string(route);
std::string to_string(route_choice);

/// Parses "auto", "mapped", "direct", "staged". invalid_argument names the text and the choices.
caf::expected<route_choice> parse_route_choice(std::string_view);

/// Chooses the route of a plan towards a peer. transfer_failed when the host asked for a route
/// that does not exist, or when memory on a device is written that neither mappings nor puts reach;
/// says why.
caf::expected<routed> choose_route(const copy_plan&, const own_memory&, const peer_view&,
                                   route_choice);

} // namespace kvferry
