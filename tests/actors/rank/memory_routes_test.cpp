// SPDX-License-Identifier: Apache-2.0
// What a host is told about the way into its memory, before the first transfer.
#include "actors/rank/memory_routes.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

namespace {

std::string route_into(memory_region region, bool has_host_link = true) {
    return memory_routes({std::move(region)}, has_host_link).at(0).text;
}

memory_region of(memory_kind kind) {
    memory_region result;
    result.kind = kind;
    result.access_key.resize(1);
    return result;
}

} // namespace

TEST_CASE("memory_routes: a memfd and exported device memory are mapped; the rest says why not") {
    CHECK(route_into(of(memory_kind::host_shared)) == "mapped");
    CHECK(route_into(of(memory_kind::host_private))
          == "direct: the memory is the process's own: only a memfd can be mapped");
    CHECK(route_into(of(memory_kind::host_shared), false)
          == "direct: this rank has no same-host link");
    auto device = of(memory_kind::cuda);
    CHECK(route_into(device) == "mapped");
    CHECK(route_into(device, false) == "staged: this rank has no same-host link");
    device.on_device.obstacle = "memory of cudaMallocAsync has no handle";
    CHECK(route_into(device) == "staged: memory of cudaMallocAsync has no handle");
    device.access_key.clear();
    CHECK(route_into(device) == "none: memory of cudaMallocAsync has no handle");
}

TEST_CASE("memory_routes: one for each region, in their order") {
    const auto routes =
        memory_routes({of(memory_kind::host_private), of(memory_kind::host_shared)}, true);
    REQUIRE(routes.size() == 2);
    CHECK(routes[0].way == route::direct);
    CHECK(routes[1].way == route::mapped);
}
