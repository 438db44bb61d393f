// SPDX-License-Identifier: Apache-2.0
// The small values of a fabric: its links, a peer's regions, and who waits for quiet.
#include "tests/transport/fabric/key_of.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/link_table.hpp"
#include "transport/fabric/peer_regions.hpp"
#include "transport/fabric/quiet_waits.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

using namespace kvferry;

namespace {

struct some_link {
    incarnation peer;
    bool owner = false;
    bool open = true;
    bool is_open() const { return open; }
};

} // namespace

TEST_CASE("link_table: a peer's frames go to an open link, if possible to one with an owner") {
    link_table<some_link> links;
    CHECK(links.empty());
    links.add({1}, {incarnation{5}});
    links.add({2}, {incarnation{5}, true});
    links.add({3}, {incarnation{6}});
    CHECK(links.find_open(incarnation{5}) == links.find({2}));
    links.find({2})->open = false;
    CHECK(links.find_open(incarnation{5}) == links.find({1}));
    CHECK(links.find_open(endpoint_id{2}) == nullptr);
    CHECK(links.of(incarnation{5}).size() == 2);
    links.take({1});
    CHECK(links.find_open(incarnation{5}) == nullptr);
    CHECK(links.has_any(incarnation{5}));
    links.take({2});
    CHECK_FALSE(links.has_any(incarnation{5}));
    CHECK(links.all() == std::vector{endpoint_id{3}});
}

TEST_CASE("peer_regions: a key that cannot be used is named by each put, and only by puts that use "
          "its region") {
    const std::string label = "a label";
    auto plain = testing::region_with_key({1, 11}, label);
    auto short_key = plain;
    short_key.access_key = seal(label, "abc", 3);
    auto other_label = testing::region_with_key({1, 11}, "another");
    const peer_regions regions{{plain, short_key, other_label, {}}, label};
    const auto code = [&](std::uint32_t region) {
        const auto problem = regions.check(testing::put_into(region), incarnation{9});
        return problem ? code_of(problem) : errc{};
    };
    CHECK(code(0) == errc{});
    CHECK(regions.key(0).secret == 11);
    for (std::uint32_t region : {1u, 2u, 3u})
        CHECK(code(region) == errc::transfer_failed);
    CHECK(code(4) == errc::plan_invalid);
    CHECK(peer_regions{}.empty());
}

TEST_CASE("peer_regions: memory on a device is staged unless its key has a part for RMA; by RMA "
          "every other key needs one") {
    const std::string label = "a label";
    auto host = testing::region_with_key({1, 11}, label);
    auto host_rma = testing::region_with_key({2, 12}, label, 8);
    auto device = host, device_rma = host_rma;
    device.kind = device_rma.kind = memory_kind::cuda;
    std::vector<std::uint32_t> learned;
    const peer_regions regions{
        {host, host_rma, device, device_rma}, label, [&](std::uint32_t region, byte_view key) {
            CHECK(key.size() == 8);
            learned.push_back(region);
            return caf::error{};
        }};
    CHECK(learned == std::vector<std::uint32_t>{1, 3});
    CHECK(regions.check(testing::put_into(0), incarnation{9}));
    CHECK_FALSE(regions.check(testing::put_into(1), incarnation{9}));
    CHECK(regions.is_staged(2));
    CHECK_FALSE(regions.is_staged(3));
    CHECK(regions.has_staged(testing::put_into(2)));
    CHECK_FALSE(regions.has_staged(testing::put_into(1)));
}

TEST_CASE("quiet_waits: without a device everybody is answered at once, but for a writer whose "
          "hardware may still put") {
    using waits = quiet_waits<int>;
    waits waiting;
    inbound_writes inbound;
    waiting.add(incarnation{5}, 1);
    waiting.add(attempt{6}, 2);
    waiting.add(region_id{7}, 3);
    waiting.add(waits::everything{}, 4);
    bool may_put = true;
    const auto asked = [&may_put](incarnation) { return may_put; };
    CHECK(waiting.take(inbound, asked) == std::vector{2, 3, 4});
    may_put = false;
    CHECK(waiting.take(inbound, asked) == std::vector{1});
    CHECK(waiting.take(inbound, asked).empty());
}

TEST_CASE("quiet_waits: everybody whose bytes a device still scatters waits for it") {
    using waits = quiet_waits<int>;
    std::array<std::byte, 64> memory{}, staging{};
    inbound_writes inbound{16, 64};
    const region_id region{7};
    inbound.allow(region, memory.data(), memory.size(), 42, staging);
    const auto at = reinterpret_cast<std::uint64_t>(memory.data());
    inbound.ask({.sender = 5, .put = 1, .region = 7, .secret = 42, .bytes = 64, .attempt = 6}, {});
    inbound.staging().pinned(staging.data(), {});
    inbound.place({5, 1, 7, 42, at, 6}, staging.data(), 64);
    const auto scatters = inbound.staging().take_scatters();
    REQUIRE(scatters.size() == 1);
    waits waiting;
    waiting.add(incarnation{5}, 1);
    waiting.add(attempt{6}, 2);
    waiting.add(region, 3);
    waiting.add(waits::everything{}, 4);
    waiting.add(incarnation{4}, 5);
    waiting.add(attempt{4}, 6);
    const auto asked = [](incarnation) { return false; };
    CHECK(waiting.take(inbound, asked) == std::vector{5, 6});
    inbound.scattered(scatters[0].number, {});
    CHECK(waiting.take(inbound, asked) == std::vector{1, 2, 3, 4});
}

TEST_CASE(
    "fabric heads: what a newer release puts behind a head is skipped, a shorter one is none") {
    write_head head;
    head.sender = 1;
    head.attempt = 7;
    byte_buffer bytes{bytes_of(head).begin(), bytes_of(head).end()};
    for (std::size_t more = 0; more <= head_growth_bytes; ++more) {
        const auto read = read_head<write_head>(bytes);
        REQUIRE(read);
        CHECK(read->sender == 1);
        CHECK(read->attempt == 7);
        bytes.push_back(caf::byte{42});
    }
    bytes.resize(sizeof head - 1);
    CHECK_FALSE(read_head<write_head>(bytes));
}
