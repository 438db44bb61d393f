// SPDX-License-Identifier: Apache-2.0
// How a rank's memory becomes reachable, and what a failure leaves.
#include "actors/decisions/rank_memory.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using kvferry::testing::contains;

namespace {

struct subject {
    rank_memory value;
    time_point now{};

    explicit subject(rank_memory::terms with = {}) : value(std::move(with)) {}

    std::string tell(rank_memory::event x) { return shown(value.on(std::move(x), now)); }

    std::string give(std::vector<host_region> regions) {
        register_pools pools;
        pools.regions = std::move(regions);
        pools.pages.pools.resize(1);
        return tell(rank_memory::given{std::move(pools)});
    }

    std::string register_one(std::size_t region, std::uint64_t id) {
        return tell(rank_memory::registered{region, {{id}, byte_buffer(3)}});
    }

    static std::string shown(const rank_memory::effects& all) {
        struct names {
            std::string operator()(const rank_memory::pin& x) {
                return "pin " + std::to_string(x.region);
            }
            std::string operator()(const rank_memory::export_from& x) {
                return "export " + std::to_string(x.region)
                       + " from cuda:" + std::to_string(x.device);
            }
            std::string operator()(const rank_memory::register_here& x) {
                return "register " + std::to_string(x.region)
                       + (x.lands_first ? " behind landing memory" : "");
            }
            std::string operator()(const rank_memory::ready&) { return "ready"; }
            std::string operator()(const rank_memory::give_up& x) {
                return "give up: " + text_of(x.why);
            }
        };
        std::string result;
        for (const auto& each : all)
            result += (result.empty() ? "" : ", ") + std::visit(names{}, each);
        return result.empty() ? "-" : result;
    }
};

host_region on_host(memory_kind kind = memory_kind::host_shared) {
    host_region result;
    result.bytes = 4096;
    result.kind = kind;
    return result;
}

host_region on_device(int device) {
    auto result = on_host(memory_kind::cuda);
    result.device = device;
    return result;
}

rank_memory::terms two_devices() {
    return {.devices = {0, 1}, .landing = {1}, .also_shared = 2, .shared_regions_max = 8};
}

device_region_exported chunked(std::size_t count) {
    device_region_exported result;
    result.chunks.resize(count);
    return result;
}

} // namespace

TEST_CASE("rank_memory: host memory is registered, and is ready when all of it is") {
    subject test;
    CHECK(test.give({on_host(), on_host(memory_kind::host_private)}) == "register 0, register 1");
    CHECK(test.register_one(1, 70) == "-");
    CHECK(test.register_one(0, 71) == "ready");
    CHECK(test.value.ids() == std::vector<region_id>{{70}, {71}});
    REQUIRE(test.value.regions().size() == 2);
    CHECK(test.value.regions()[1].kind == memory_kind::host_private);
    CHECK(test.value.regions()[1].access_key.size() == 3);
    CHECK(test.value.own().region_of_pool == std::vector<std::uint32_t>{0});
}

TEST_CASE("rank_memory: a rank without memory is ready at once") {
    subject test;
    CHECK(test.give({}) == "ready");
}

TEST_CASE("rank_memory: for a rank with devices host memory is pinned as well; one that cannot be "
          "is no failure, and the reason is kept") {
    subject test{two_devices()};
    CHECK(test.give({on_host()}) == "pin 0, register 0");
    CHECK(test.register_one(0, 70) == "-");
    SUBCASE("pinned") {
        CHECK(test.tell(rank_memory::pinned{0}) == "ready");
        CHECK(test.value.own().regions[0].unpinned_reason == "");
    }
    SUBCASE("not pinned") {
        CHECK(test.tell(rank_memory::pinned{0, make_error(errc::cuda_failed, "no room")})
              == "ready");
        CHECK(test.value.own().regions[0].unpinned_reason == "no room");
    }
    CHECK(test.value.own().devices == std::vector<int>{0, 1});
}

TEST_CASE("rank_memory: memory on a device is exported by that device, then registered") {
    subject test{two_devices()};
    CHECK(test.give({on_device(1), on_device(0)}) == "export 0 from cuda:1, export 1 from cuda:0");
    CHECK(test.tell(rank_memory::exported{0, {}}) == "register 0 behind landing memory");
    CHECK(test.tell(rank_memory::exported{1, {}}) == "register 1");
    CHECK(test.register_one(0, 70) == "-");
    CHECK(test.register_one(1, 71) == "ready");
    CHECK(test.value.own().regions[0].device == 1);
}

TEST_CASE("rank_memory: chunks are shared under numbers of their own, and too many are an obstacle "
          "that is told, no failure") {
    subject test{two_devices()};
    test.give({on_device(0), on_device(1)}); // two regions and two of staging: room for four
    CHECK(test.tell(rank_memory::exported{0, chunked(3)}) == "register 0");
    REQUIRE(test.value.chunks().size() == 3);
    CHECK(test.value.chunks()[2].region == device_chunk_number(0, 2));
    CHECK(test.value.regions()[0].on_device.obstacle == "");
    CHECK(test.tell(rank_memory::exported{1, chunked(2)}) == "register 1 behind landing memory");
    CHECK(test.value.chunks().size() == 3);
    CHECK(contains(test.value.regions()[1].on_device.obstacle, "shared_regions_max = 8"));
}

TEST_CASE("rank_memory: the first failure is told, by region, when nothing is under way any more; "
          "what was registered meanwhile is known") {
    subject test{two_devices()};
    test.give({on_host(), on_device(0)});
    CHECK(test.tell(rank_memory::failed{1, make_error(errc::cuda_failed, "no handle")}) == "-");
    CHECK(test.tell(rank_memory::pinned{0}) == "-");
    SUBCASE("the only one") {
        CHECK(test.register_one(0, 70) == "give up: region 1: no handle");
        CHECK(test.value.ids() == std::vector<region_id>{{70}});
    }
    SUBCASE("another one behind it") {
        CHECK(test.tell(rank_memory::failed{0, make_error(errc::registration_failed, "later")})
              == "give up: region 1: no handle");
    }
}

TEST_CASE("rank_memory: a device that the rank does not have is named, whatever lies elsewhere") {
    subject test{two_devices()};
    SUBCASE("alone") {
        CHECK(contains(test.give({on_device(5)}), "give up: region 0: the rank has no device 5"));
    }
    SUBCASE("beside another region") {
        CHECK(test.give({on_device(5), on_device(0)}) == "export 1 from cuda:0");
        test.tell(rank_memory::exported{1, {}});
        CHECK(contains(test.register_one(1, 70), "give up: region 0: the rank has no device 5"));
    }
}
