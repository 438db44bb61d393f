// SPDX-License-Identifier: Apache-2.0
// The choice of a route, its reason, and the addresses that go with it.
#include "actors/context/route.hpp"
#include "tests/support/caf_setup.hpp"

#include <doctest/doctest.h>

#include <memory>

using namespace kvferry;

namespace {

/// A peer with two pools: pool 0 at byte 64 of region 0, pool 1 at the start of region 1.
struct two_pools {
    peer_view peer;
    /// Two pools as well, each a region of its own.
    own_memory own{{{}, {}}, {0, 1}, {}};
    copy_plan plan;
    std::vector<std::byte> memory = std::vector<std::byte>(4096);
    std::shared_ptr<const void> mapping = std::make_shared<int>(1);

    two_pools() {
        peer.info.instance = "gen";
        peer.info.pages.emplace();
        peer.info.pages->pools = {{0, 64, 128, 128, 4}, {1, 0, 256, 512, 4}};
        peer.regions = {{0x10000, 1024, memory_kind::host_shared, {}},
                        {0x20000, 2048, memory_kind::host_shared, {}}};
        plan.parts.resize(1);
    }

    void map(std::uint32_t region, std::uint64_t bytes) {
        peer.mapped.push_back({region, memory.data(), bytes, mapping});
    }
    /// The region as a device sees it: at another address.
    void map_on_device(int device, std::uint32_t region, std::uint64_t bytes) {
        peer.mapped.push_back(
            {region, memory.data() + 1024 * (device + 1), bytes, device_mapping, device});
    }
    void own_pool_on_device(std::uint32_t pool, int device) {
        own.regions[pool] = {memory_kind::cuda, device, {}};
        own.devices = {0, 1};
    }
    std::shared_ptr<const void> device_mapping = std::make_shared<int>(2);
    std::uint64_t mapped_address() const { return reinterpret_cast<std::uint64_t>(memory.data()); }
};

} // namespace

TEST_CASE("route: every choice has a name that parses to it; others are refused by name") {
    for (auto choice : {route_choice::automatic, route_choice::mapped, route_choice::direct,
                        route_choice::staged})
        CHECK(parse_route_choice(to_string(choice)) == choice);
    auto wrong = parse_route_choice("rdma");
    REQUIRE_FALSE(wrong);
    CHECK(code_of(wrong.error()) == errc::invalid_argument);
    CHECK(text_of(wrong.error()).find("'rdma' is not one of auto, mapped, direct, staged")
          != std::string::npos);
}

TEST_CASE("route: a mapped pool is written where it is mapped, and the mapping is held") {
    two_pools test;
    test.map(0, 1024);
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::mapped);
    CHECK(to_string(*chosen) == "mapped");
    CHECK(chosen->target_pools[0].slot0_address == test.mapped_address() + 64);
    CHECK(chosen->target_pools[0].slot_stride_bytes == 128);
    CHECK(chosen->holds == std::vector{test.mapping});
}

TEST_CASE("route: direct addresses are the peer's own, and the text says why it is direct") {
    two_pools test;
    test.peer.unmapped_reason = "another machine";
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::direct);
    CHECK(to_string(*chosen) == "direct: another machine");
    CHECK(chosen->target_pools[0].slot0_address == 0x10000 + 64);
    CHECK(chosen->target_pools[1].slot0_address == 0x20000);
    CHECK(chosen->target_pools[1].region == 1);
    CHECK(chosen->holds.empty());
}

TEST_CASE(
    "route: one unmapped pool among those the plan writes makes it direct; others do not count") {
    two_pools test;
    test.map(0, 1024);
    test.peer.regions[1].kind = memory_kind::host_private;
    CHECK(choose_route(test.plan, test.own, test.peer, route_choice::automatic)->taken
          == route::mapped);
    test.plan.parts.push_back({0, 1, {}, {}});
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::direct);
    CHECK(to_string(*chosen)
          == "direct: region 1 of gen/0 is host_private memory, which cannot be mapped");
}

TEST_CASE("route: direct may be asked for although all is mapped") {
    two_pools test;
    test.map(0, 1024);
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::direct);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::direct);
    CHECK(to_string(*chosen) == "direct: asked for");
}

TEST_CASE("route: mapped, asked for where it does not exist, is refused with the reason") {
    two_pools test;
    test.peer.unmapped_reason = "another machine";
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::mapped);
    REQUIRE_FALSE(chosen);
    CHECK(code_of(chosen.error()) == errc::transfer_failed);
    CHECK(text_of(chosen.error()).find("another machine") != std::string::npos);
}

TEST_CASE("route: a mapping shorter than the region that the peer announced is never written") {
    two_pools test;
    test.map(0, 1023);
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::direct);
    CHECK(to_string(*chosen) == "direct: region 0 of gen/0 is mapped for 1023 of its 1024 bytes");
}

TEST_CASE("route: a pool in a region that the peer never registered is not looked up") {
    two_pools test;
    test.map(0, 1024);
    test.peer.info.pages->pools[1].region = 1000;
    for (auto asked : {route_choice::automatic, route_choice::direct}) {
        auto chosen =
            choose_route(test.plan, test.own, test.peer, asked); // the plan writes pool 0 only
        REQUIRE(chosen);
        CHECK(chosen->target_pools[1].slot0_address == 0);
    }
    test.plan.parts[0].target_pool = 1;
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::mapped);
    REQUIRE_FALSE(chosen);
    CHECK(text_of(chosen.error()).find("region 1000 of gen/0 is not registered")
          != std::string::npos);
}

// -- devices --------------------------------------------------------------------------------------

TEST_CASE("route: the device that holds the source copies, into its own view of the target") {
    two_pools test;
    test.own_pool_on_device(0, 1);
    test.map(0, 1024);
    test.map_on_device(0, 0, 1024);
    test.map_on_device(1, 0, 1024);
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::mapped);
    CHECK(chosen->device == 1);
    CHECK(to_string(*chosen) == "mapped by cuda:1");
    CHECK(chosen->target_pools[0].slot0_address == test.mapped_address() + 2048 + 64);
    // The chosen device may use any device's pin of host memory, so the route holds them all.
    CHECK(chosen->holds.size() == 3);
}

TEST_CASE("route: host memory goes to a device through any device of the rank that can read it") {
    two_pools test;
    test.peer.regions[0].kind = memory_kind::cuda;
    test.own.devices = {0};
    test.map_on_device(0, 0, 1024);
    CHECK(choose_route(test.plan, test.own, test.peer, route_choice::automatic)->device == 0);
    test.own.regions[0].unpinned_reason = "cudaHostRegister: out of memory";
    auto refused = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::transfer_failed);
    CHECK(text_of(refused.error())
              .find("cuda:0 cannot read this rank's region 0: cudaHostRegister: out of memory")
          != std::string::npos);
}

TEST_CASE("route: memory on a device that neither mappings nor puts reach is refused with the "
          "reason") {
    two_pools test;
    test.own_pool_on_device(0, 0);
    test.peer.regions[0].kind = memory_kind::cuda;
    auto why = [&](route_choice asked) {
        auto refused = choose_route(test.plan, test.own, test.peer, asked);
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::transfer_failed);
        return text_of(refused.error());
    };
    test.peer.device_obstacles[{0, 0}] =
        "cuda:0 (NVIDIA H200): only memory of cudaMalloc has a handle";
    CHECK(why(route_choice::automatic)
              .find("region 0 of gen/0 is not mapped: cuda:0 (NVIDIA H200): only memory")
          != std::string::npos);
    test.peer.device_obstacles.clear();
    test.peer.unmapped_reason = "another machine";
    CHECK(why(route_choice::automatic).find("another machine") != std::string::npos);
    test.peer.unmapped_reason.clear();
    test.map_on_device(0, 0, 1024);
    CHECK(choose_route(test.plan, test.own, test.peer, route_choice::automatic)->device == 0);
    CHECK(why(route_choice::direct).find("asked for") != std::string::npos);
}

TEST_CASE("route: out of a device's memory to where no mapping leads, pieces are staged, and the "
          "text says "
          "why") {
    two_pools test;
    test.own_pool_on_device(0, 1);
    test.peer.unmapped_reason = "another machine";
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::staged);
    CHECK(chosen->device == 1);
    CHECK(to_string(*chosen) == "staged by cuda:1: another machine");
    CHECK(chosen->target_pools[0].slot0_address == 0x10000 + 64);
    CHECK(chosen->holds.empty());

    test.map_on_device(1, 0, 1024);
    CHECK(choose_route(test.plan, test.own, test.peer, route_choice::automatic)->taken
          == route::mapped);
    CHECK(to_string(*choose_route(test.plan, test.own, test.peer, route_choice::staged))
          == "staged by cuda:1: asked for");
    CHECK_FALSE(choose_route(test.plan, test.own, test.peer, route_choice::direct));
}

TEST_CASE("route: host memory is not staged, even when that is asked for") {
    two_pools test;
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::staged);
    REQUIRE_FALSE(chosen);
    CHECK(text_of(chosen.error()).find("both sides are host memory") != std::string::npos);
}

TEST_CASE("route: memory on a device that takes puts is staged into where no mapping leads, out of "
          "host memory and out of a device") {
    two_pools test;
    test.peer.regions[0].kind = memory_kind::cuda;
    test.peer.regions[0].access_key = byte_buffer(4);
    test.peer.unmapped_reason = "another machine";
    test.own.devices = {0, 1};
    auto chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::staged);
    CHECK(chosen->device == mapped_region::by_host); // nothing to gather
    CHECK(to_string(*chosen) == "staged into device memory: another machine");
    CHECK(chosen->target_pools[0].slot0_address == 0x10000 + 64);
    CHECK(chosen->holds.empty());

    test.own_pool_on_device(0, 1);
    chosen = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE(chosen);
    CHECK(chosen->taken == route::staged);
    CHECK(chosen->device == 1);
    CHECK(to_string(*chosen) == "staged by cuda:1 into device memory: another machine");

    test.map_on_device(1, 0, 1024);
    CHECK(choose_route(test.plan, test.own, test.peer, route_choice::automatic)->taken
          == route::mapped);
    CHECK(to_string(*choose_route(test.plan, test.own, test.peer, route_choice::staged))
          == "staged by cuda:1 into device memory: asked for");
    auto direct = choose_route(test.plan, test.own, test.peer, route_choice::direct);
    REQUIRE_FALSE(direct);
    CHECK(text_of(direct.error()).find("the source is device memory") != std::string::npos);
    test.own.regions[0] = {};
    direct = choose_route(test.plan, test.own, test.peer, route_choice::direct);
    REQUIRE_FALSE(direct);
    CHECK(text_of(direct.error()).find("the target is device memory") != std::string::npos);
}

TEST_CASE("route: a device gathers only what it can read: host memory beside its own must be "
          "pinned") {
    two_pools test;
    test.own_pool_on_device(0, 0);
    test.plan.parts.push_back({1, 0, {}, {}});
    test.peer.unmapped_reason = "another machine";
    CHECK(choose_route(test.plan, test.own, test.peer, route_choice::automatic)->taken
          == route::staged);
    test.own.regions[1].unpinned_reason = "cudaHostRegister: out of memory";
    auto refused = choose_route(test.plan, test.own, test.peer, route_choice::automatic);
    REQUIRE_FALSE(refused);
    CHECK(text_of(refused.error()).find("cuda:0 cannot read this rank's region 1")
          != std::string::npos);
}
