// SPDX-License-Identifier: Apache-2.0
// The rules that choose a route.
#include "actors/context/route.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <string_view>

namespace kvferry {

namespace {

const mapped_region* find_mapping(const peer_view& peer, std::uint32_t region, int device) {
    auto found = std::find_if(peer.mapped.begin(), peer.mapped.end(), [=](const mapped_region& x) {
        return x.region == region && x.device == device;
    });
    return found == peer.mapped.end() ? nullptr : &*found;
}

/// Plans are checked against the sizes that the peer states, but copies go to the mapping: one that
/// is shorter than its region must not be used.
bool maps_whole(const mapped_region& mapping, const peer_view& peer) {
    return mapping.region < peer.regions.size()
           && mapping.bytes >= peer.regions[mapping.region].bytes;
}

/// The region of the peer that a part writes, if that lies on a device.
const memory_region* written_on_device(const plan_part& part, const peer_view& peer) {
    const auto region = peer.info.pages->pools[part.target_pool].region;
    const bool found =
        region < peer.regions.size() && peer.regions[region].kind == memory_kind::cuda;
    return found ? &peer.regions[region] : nullptr;
}

bool writes_device(const copy_plan& plan, const peer_view& peer) {
    return std::any_of(plan.parts.begin(), plan.parts.end(), [&](const plan_part& part) {
        return written_on_device(part, peer) != nullptr;
    });
}

/// Every device region that the plan writes accepts puts: the peer sent an access key for it.
bool puts_reach_devices(const copy_plan& plan, const peer_view& peer) {
    return std::all_of(plan.parts.begin(), plan.parts.end(), [&](const plan_part& part) {
        const auto* region = written_on_device(part, peer);
        return !region || !region->access_key.empty();
    });
}

/// Who copies: the device that the plan reads from; else, when it writes device memory, the rank's
/// first device; else the host. Any device of the rank can read the memory of the others.
int copier_of(const copy_plan& plan, const own_memory& own, const peer_view& peer) {
    for (const auto& part : plan.parts)
        if (auto region = own.region_of_pool[part.source_pool]; own.regions[region].device >= 0)
            return own.regions[region].device;
    return writes_device(plan, peer) && !own.devices.empty() ? own.devices.front()
                                                             : mapped_region::by_host;
}

/// Why the copier does not reach every pool that the plan writes; empty when it does.
std::string why_unmapped(const copy_plan& plan, const peer_view& peer, int device) {
    for (const auto& part : plan.parts) {
        const auto& pool = peer.info.pages->pools[part.target_pool];
        const auto* mapping = find_mapping(peer, pool.region, device);
        if (mapping && maps_whole(*mapping, peer))
            continue;
        const auto region = "region " + std::to_string(pool.region) + " of " + describe(peer.info);
        if (pool.region >= peer.regions.size())
            return region + " is not registered";
        if (mapping)
            return region + " is mapped for " + std::to_string(mapping->bytes) + " of its "
                   + std::to_string(peer.regions[pool.region].bytes) + " bytes";
        if (auto found = peer.device_obstacles.find({device, pool.region});
            found != peer.device_obstacles.end())
            return region + " is not mapped: " + found->second;
        if (!peer.unmapped_reason.empty())
            return peer.unmapped_reason;
        auto kind = peer.regions[pool.region].kind;
        return region + " is " + to_string(kind)
               + (kind == memory_kind::cuda ? " memory, and this rank has no device"
                                            : " memory, which cannot be mapped");
    }
    return {};
}

/// Why the copier does not reach every pool that the plan reads; empty when it does.
std::string why_unreadable(const copy_plan& plan, const own_memory& own, int device) {
    for (const auto& part : plan.parts)
        if (const auto& region = own.regions[own.region_of_pool[part.source_pool]];
            device >= 0 && region.device < 0 && !region.unpinned_reason.empty())
            return "cuda:" + std::to_string(device) + " cannot read this rank's region "
                   + std::to_string(own.region_of_pool[part.source_pool]) + ": "
                   + region.unpinned_reason;
    return {};
}

bool reads_device(const copy_plan& plan, const own_memory& own) {
    return std::any_of(plan.parts.begin(), plan.parts.end(), [&](const plan_part& part) {
        return own.regions[own.region_of_pool[part.source_pool]].kind == memory_kind::cuda;
    });
}

/// The fabric moves host memory only: directly between two host pools, else through staging memory
/// on each side that has a device.
caf::expected<route> unmapped_route(const copy_plan& plan, const own_memory& own,
                                    const peer_view& peer, route_choice asked,
                                    const std::string& obstacle) {
    const bool reads = reads_device(plan, own), writes = writes_device(plan, peer);
    auto refuse = [&](std::string_view why) {
        return make_error(errc::transfer_failed, "route {} to {} was asked for, but {}", asked,
                          describe(peer.info), why);
    };
    if (writes && !puts_reach_devices(plan, peer))
        return make_error(
            errc::transfer_failed,
            "device memory of {} can only be written through a mapping, and none is used: {}",
            describe(peer.info), obstacle);
    if (!reads && !writes) {
        if (asked == route_choice::staged)
            return refuse("both sides are host memory");
        return route::direct;
    }
    if (asked == route_choice::direct)
        return refuse(reads ? "the source is device memory" : "the target is device memory");
    return route::staged;
}

/// Holds every mapping of a region: the pin that one device made of host memory serves the others
/// too.
void hold_all(const peer_view& peer, std::uint32_t region, routed& result) {
    for (const auto& mapping : peer.mapped)
        if (mapping.region == region)
            result.holds.push_back(mapping.mapping);
}

} // namespace

std::string to_string(const routed& x) {
    auto result = to_string(x.taken);
    if (x.by_rma) // no reader of this text may hope for an early release
        result += " by RMA, which nobody can fence";
    if (x.device >= 0)
        result += " by cuda:" + std::to_string(x.device);
    if (x.into_device)
        result += " into device memory";
    if (!x.reason.empty())
        result += ": " + x.reason;
    return result;
}

taken_route described(const routed& x) {
    return {x.taken, to_string(x)};
}

caf::expected<routed> choose_route(const copy_plan& plan, const own_memory& own,
                                   const peer_view& peer, route_choice asked, bool may_map) {
    routed result;
    result.device = copier_of(plan, own, peer);
    auto obstacle = why_unmapped(plan, peer, result.device);
    if (obstacle.empty())
        obstacle = why_unreadable(plan, own, result.device);
    if (obstacle.empty() && !may_map)
        obstacle = "the receiver has no same-host link to this rank";
    if (asked == route_choice::mapped && !obstacle.empty())
        return make_error(errc::transfer_failed, "route mapped to {} was asked for, but {}",
                          describe(peer.info), obstacle);
    if (asked == route_choice::direct || asked == route_choice::staged)
        obstacle = "asked for";
    const auto use_mapping = obstacle.empty();
    result.taken = route::mapped;
    if (!use_mapping) {
        auto other = unmapped_route(plan, own, peer, asked, obstacle);
        if (!other)
            return std::move(other.error());
        result.taken = *other;
        if (!reads_device(plan, own)) // nothing to gather
            result.device = mapped_region::by_host;
    }
    if (result.taken == route::staged && result.device >= 0)
        if (auto problem = why_unreadable(plan, own, result.device); !problem.empty())
            return make_error(errc::transfer_failed, problem);
    result.by_rma = !use_mapping && peer.by_rma;
    result.into_device = result.taken == route::staged && writes_device(plan, peer);
    result.reason = std::move(obstacle);
    for (const auto& pool : peer.info.pages->pools) {
        pool_base base{0, pool.slot_stride_bytes, pool.region};
        if (pool.region >= peer.regions.size()) {
            // The plan does not touch it, or it would have failed its check.
        } else if (!use_mapping) {
            base.slot0_address = peer.regions[pool.region].base_address + pool.region_offset_bytes;
        } else if (const auto* mapping = find_mapping(peer, pool.region, result.device)) {
            base.slot0_address =
                reinterpret_cast<std::uint64_t>(mapping->base) + pool.region_offset_bytes;
            hold_all(peer, pool.region, result);
        }
        result.target_pools.push_back(base);
    }
    return result;
}

} // namespace kvferry
