// SPDX-License-Identifier: Apache-2.0
// The reasons to refuse a request, in the order of what they cost.
#include "actors/context/request_check.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace kvferry {

namespace {

caf::expected<std::shared_ptr<const pair_layout>>
layout_for(const request_data& request, const rank_info& self, const rank_info& peer, aux_mode aux,
           const limits& bounds, plan_cache& plans, const std::shared_ptr<const void>& held) {
    for (const auto& group : request.target.groups)
        if (group.slots.size() > bounds.blocks_per_slice_max)
            return make_error(
                errc::limit_exceeded,
                "{} blocks in one layer group are more than blocks_per_slice_max = {}",
                group.slots.size(), bounds.blocks_per_slice_max);
    if (!self.pages || !peer.pages)
        return make_error(errc::missing_layout, "{} published no page table",
                          describe(self.pages ? peer : self));
    if (auto problem = check_fingerprints(self, peer))
        return problem;
    // The same answer as should_send_kv, but from the templates that a plan needs anyway: those are
    // cached, while matching two layouts again takes longer than a small transfer.
    auto layout = plans.find_or_make(self, peer, held);
    if (!layout)
        return layout;
    if (request.kv == (*layout)->empty() && !(request.relayed && !request.kv))
        return make_error(errc::layout_mismatch,
                          "it asks {} for KV = {}, but the layouts say the opposite",
                          describe(self), request.kv);
    if (request.aux == aux_mode::required && !request.header.relay && !should_send_aux(self, peer))
        return make_error(errc::layout_mismatch, "it asks {} for aux, which another rank sends",
                          describe(self));
    if (request.aux == aux_mode::required && aux == aux_mode::none)
        return make_error(errc::invalid_argument,
                          "it requires aux, but the sending session was opened without");
    return layout;
}

} // namespace

caf::error check_views(const request_data& request, const rank_info& peer) {
    for (const auto& x : request.views)
        if (!peer.pages || x.group >= peer.pages->groups.size()
            || x.view >= peer.pages->groups[x.group].views.size())
            return make_error(
                errc::invalid_argument,
                "rid {} from {}: it asks for view {} of layer group {}, which its page "
                "table does not have",
                request.header.request, describe(peer), x.view, x.group);
    return {};
}

caf::expected<std::shared_ptr<const pair_layout>>
check_request(const request_data& request, const rank_info& self, const rank_info& peer,
              aux_mode aux, const limits& bounds, plan_cache& plans,
              const std::shared_ptr<const void>& held) {
    auto layout = layout_for(request, self, peer, aux, bounds, plans, held);
    if (!layout)
        return add_context(layout.error(), "rid {} from {}", request.header.request,
                           describe(peer));
    return layout;
}

caf::error check_relay(const request_data& request, const rank_info& self, const rank_info& peer,
                       std::uint64_t relay_of, const std::vector<view_place>& landing) {
    const auto& wanted = request.views;
    const auto lands = [&landing](view_place x) {
        return std::find(landing.begin(), landing.end(), x) != landing.end();
    };
    const auto all_land =
        landing.empty() || (!wanted.empty() && std::all_of(wanted.begin(), wanted.end(), lands));
    if (self.instance != peer.instance || !all_land || !are_replicas(self, peer, wanted))
        return make_error(errc::layout_mismatch,
                          "rid {}: {} holds other bytes than {}, and hands on nothing to it",
                          request.header.request, describe(self), describe(peer));
    if (request.relay_of != relay_of)
        return make_error(errc::gone,
                          "rid {}: {} receives it from other context ranks than {} means",
                          request.header.request, describe(self), describe(peer));
    return {};
}

} // namespace kvferry
