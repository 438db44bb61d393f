// SPDX-License-Identifier: Apache-2.0
// Ranks whose cache lies on two devices: mapped, and staged on both sides.
#include "cuda/device/device_pool.hpp"
#include "tests/actors/host/two_devices.hpp"
#include "tests/device/device_setup.hpp"

#include <memory>

namespace kvferry::testing {

namespace {

region_memory on_device(int device, std::uint64_t bytes) {
    auto made = make_device_pool(device, bytes);
    REQUIRE_MESSAGE(made, describe(made ? caf::error{} : made.error()));
    std::shared_ptr<device_pool> pool = std::move(*made);
    return {{pool->base(), bytes, memory_kind::cuda, -1},
            [pool](std::span<const std::byte> from) { CHECK_FALSE(pool->write(0, from)); },
            [pool](std::span<std::byte> to) { CHECK_FALSE(pool->read(0, to)); }};
}

/// 512 KiB a block and region.
cache_format half_of_the_layers() {
    cache_format result;
    result.layers = 8;
    result.kv_heads = 8;
    result.head_dim = 64;
    return result;
}

} // namespace

TEST_CASE("two devices: a rank's pools on two devices go to a rank with pools on two devices, "
          "mapped and staged, byte for byte") {
    KVFERRY_NEEDS_DEVICES(2);
    for (auto route : {route_choice::automatic, route_choice::staged}) {
        runtime system;
        worker_options base;
        base.route = route;
        two_device_ranks ranks{system, half_of_the_layers(), base, {0, 1}, on_device};
        for (std::uint64_t request = 1; request <= 3; ++request)
            ranks.serve(request, route == route_choice::staged
                                     ? "staged by cuda:0 into device memory: asked for"
                                     : "mapped by cuda:0");
    }
}

} // namespace kvferry::testing
