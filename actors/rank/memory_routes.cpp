// SPDX-License-Identifier: Apache-2.0
#include "actors/rank/memory_routes.hpp"

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

std::string memory_route(const memory_region& region, bool has_host_link) {
    const auto obstacle = why_not_mapped(region, has_host_link);
    if (obstacle.empty())
        return "mapped";
    if (region.kind != memory_kind::cuda)
        return "direct: " + obstacle;
    return (region.access_key.empty() ? "none: " : "staged: ") + obstacle;
}

} // namespace

std::vector<std::string> memory_routes(const std::vector<memory_region>& regions,
                                       bool has_host_link) {
    std::vector<std::string> result;
    for (const auto& each : regions)
        result.push_back(memory_route(each, has_host_link));
    return result;
}

} // namespace kvferry
