// SPDX-License-Identifier: Apache-2.0
#include "actors/rank/memory_routes.hpp"

#include <string>

namespace kvferry {

namespace {

/// Empty: they can map it.
std::string why_not_mapped(const memory_region& region, bool has_host_link) {
    if (!has_host_link)
        return "this rank has no same-host link";
    if (region.kind == memory_kind::host_private)
        return "the memory is the process's own: only a memfd can be mapped";
    return region.on_device.obstacle;
}

taken_route memory_route(const memory_region& region, bool has_host_link) {
    const auto obstacle = why_not_mapped(region, has_host_link);
    const auto way = obstacle.empty()                   ? route::mapped
                     : region.kind != memory_kind::cuda ? route::direct
                     : region.access_key.empty()        ? route::none
                                                        : route::staged;
    return {way, obstacle.empty() ? to_string(way) : to_string(way) + ": " + obstacle};
}

} // namespace

std::vector<taken_route> memory_routes(const std::vector<memory_region>& regions,
                                       bool has_host_link) {
    std::vector<taken_route> result;
    for (const auto& each : regions)
        result.push_back(memory_route(each, has_host_link));
    return result;
}

} // namespace kvferry
