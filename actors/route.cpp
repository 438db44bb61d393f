// SPDX-License-Identifier: Apache-2.0
// The rules that choose a route.
#include "actors/route.hpp"

#include "messages/type_ids.hpp"

#include <algorithm>

namespace kvferry {

namespace {

const mapped_region* find_mapping(const peer_view& peer, std::uint32_t region) {
    auto found = std::find_if(peer.mapped.begin(), peer.mapped.end(),
                              [region](const mapped_region& x) { return x.region == region; });
    return found == peer.mapped.end() ? nullptr : &*found;
}

/// Plans are checked against what the peer says of its regions, copies go to what is mapped.
bool maps_whole(const mapped_region& mapping, const peer_view& peer) {
    return mapping.region < peer.regions.size() && mapping.bytes >= peer.regions[mapping.region].bytes;
}

/// Why not every pool that the plan writes is mapped; empty when all are.
std::string why_unmapped(const copy_plan& plan, const peer_view& peer) {
    for (const auto& part : plan.parts) {
        const auto& pool = peer.info.pages->pools[part.target_pool];
        auto region = "region " + std::to_string(pool.region) + " of " + describe(peer.info);
        if (pool.region >= peer.regions.size())
            return region + " is not registered";
        const auto* mapping = find_mapping(peer, pool.region);
        if (mapping && maps_whole(*mapping, peer))
            continue;
        if (mapping)
            return region + " is mapped for " + std::to_string(mapping->bytes) + " of its "
                   + std::to_string(peer.regions[pool.region].bytes) + " bytes";
        if (!peer.unmapped_reason.empty())
            return peer.unmapped_reason;
        return region + " is " + to_string(peer.regions[pool.region].kind)
               + " memory, which cannot be mapped";
    }
    return {};
}

} // namespace

std::string to_string(route x) {
    return x == route::mapped ? "mapped" : "direct";
}

std::string to_string(route_choice x) {
    switch (x) {
    case route_choice::mapped:
        return "mapped";
    case route_choice::direct:
        return "direct";
    default:
        return "auto";
    }
}

caf::expected<route_choice> parse_route_choice(std::string_view text) {
    for (auto choice : {route_choice::automatic, route_choice::mapped, route_choice::direct})
        if (text == to_string(choice))
            return choice;
    return make_error(errc::invalid_argument,
                      "route '" + std::string{text} + "' is none of auto, mapped, direct");
}

caf::expected<routed> choose_route(const copy_plan& plan, const peer_view& peer, route_choice asked) {
    routed result;
    auto obstacle = why_unmapped(plan, peer);
    if (asked == route_choice::mapped && !obstacle.empty())
        return make_error(errc::transfer_failed, "route mapped to " + describe(peer.info)
                                                     + " was asked for, but " + obstacle);
    auto use_mapping = obstacle.empty() && asked != route_choice::direct;
    result.taken = use_mapping ? route::mapped : route::direct;
    if (use_mapping)
        result.text = "mapped";
    else
        result.text = "direct: " + (asked == route_choice::direct ? std::string{"asked for"} : obstacle);
    for (const auto& pool : peer.info.pages->pools) {
        pool_base base{0, pool.slot_stride_bytes, pool.region};
        if (pool.region >= peer.regions.size()) {
            // The plan does not touch it, or it would have failed its check.
        } else if (!use_mapping) {
            base.slot0_address = peer.regions[pool.region].base_address + pool.region_offset_bytes;
        } else if (const auto* mapping = find_mapping(peer, pool.region)) {
            base.slot0_address = reinterpret_cast<std::uint64_t>(mapping->base) + pool.region_offset_bytes;
            result.holds.push_back(mapping->mapping);
        }
        result.target_pools.push_back(base);
    }
    return result;
}

} // namespace kvferry
