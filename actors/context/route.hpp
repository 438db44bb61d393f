// SPDX-License-Identifier: Apache-2.0
// How the bytes of one plan go: the choice of a route, with its reason. Pure.
#pragma once

#include "actors/shared/own_memory.hpp"
#include "actors/shared/route_choice.hpp"
#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/route.hpp"

#include <string>

namespace kvferry {

struct routed {
    route taken = route::direct;
    /// Who copies, or gathers, on this side: a device or the host.
    int device = mapped_region::by_host;
    /// Why no mapping serves; empty when one does: "no same-host link: ...".
    std::string reason;
    /// Puts that no fence stops.
    bool by_rma = false;
    /// A device of the target scatters.
    bool into_device = false;
    /// Target pools as the route's executor addresses them.
    std::vector<pool_base> target_pools;
    /// Mappings that the job must keep alive.
    std::vector<std::shared_ptr<const void>> holds;
};

/// "mapped", "mapped by cuda:0", "direct: no same-host link: ...", "staged by cuda:0: ...", "staged
/// into device memory: ...": for results and logs.
std::string to_string(const routed&);

/// The same, for reports and counters.
taken_route described(const routed&);

/// Chooses the route of a plan towards a peer. Mappings serve only when the receiver allows them
/// (request_data::may_map). transfer_failed when the host asked for a route
/// that does not exist, or when memory on a device is written that neither mappings nor puts reach;
/// says why.
caf::expected<routed> choose_route(const copy_plan&, const own_memory&, const peer_view&,
                                   route_choice, bool may_map = true);

} // namespace kvferry
