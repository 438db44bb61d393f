// SPDX-License-Identifier: Apache-2.0
// What the numbers of the incast rely on: no two peers share a slot, wrong bytes are found, and a
// missed target is said.
#include "actors/host/configure.hpp"
#include "doctest/doctest.h"
#include "tests/support/contains.hpp"
#include "tools/bench/incast/incast_layout.hpp"

#include <set>
#include <vector>

using namespace kvferry;
using namespace kvferry::bench;
using kvferry::testing::contains;

namespace {

incast_options two_sizes() {
    incast_options result;
    result.peers = 3;
    result.processes = 2;
    result.sizes = {256 << 10, 1 << 20};
    return result;
}

} // namespace

TEST_CASE("incast: the requests of all peers lie in slots of their own") {
    const incast_layout layout{two_sizes()};
    CHECK(layout.bytes_of(0) == 256 << 10);
    CHECK(layout.bytes_of(3) == 1 << 20);
    std::set<std::int32_t> slots;
    std::size_t count = 0;
    for (std::uint32_t peer = 0; peer < 3; ++peer)
        for (const auto& slice : {layout.bulk(peer, 1 << 20), layout.urgent(peer)}) {
            slots.insert(slice.groups[0].slots.begin(), slice.groups[0].slots.end());
            count += slice.groups[0].slots.size();
        }
    CHECK(count == 3 * layout.slots_of_peer());
    CHECK(slots.size() == count);
    CHECK(*slots.rbegin() == static_cast<std::int32_t>(count) - 1);
    CHECK(layout.bulk(0, 256 << 10).groups[0].slots.size() == 4);
}

TEST_CASE("incast: a block that another peer, another block or nobody wrote is wrong") {
    std::vector<std::byte> block(incast_layout::block_bytes);
    CHECK_FALSE(incast_layout::is_right(block, 1, 2));
    incast_layout::write(block, 1, 2);
    CHECK(incast_layout::is_right(block, 1, 2));
    CHECK_FALSE(incast_layout::is_right(block, 2, 2));
    CHECK_FALSE(incast_layout::is_right(block, 1, 3));
    block.back() ^= std::byte{1};
    CHECK_FALSE(incast_layout::is_right(block, 1, 2));
}

TEST_CASE("incast: a missed target is said, in both forms") {
    incast_result x;
    x.options = two_sizes();
    x.rows.push_back({"normal", 1 << 20, {10, 0.1, 0.2}, {10, 1.0, 2.5}});
    x.shares = {10, 1.0, 2.5};
    x.idle = {10, 1e-4, 2e-4};
    x.busy = {10, 2e-4, 5e-4};
    const auto text = text_of(x);
    CHECK(contains(text, "2.50, at most 2.0: MISSED"));
    CHECK(contains(text, "(2.50 x), at most 3.0 x: reached"));
    const auto json = nlohmann::json::parse(json_of(x));
    CHECK(json.at("p99_shares") == 2.5);
    CHECK(json.at("urgent_p99_ratio").get<double>() == doctest::Approx(2.5));
    CHECK(json.at("rows").at(0).at("p99_shares") == 2.5);
}

TEST_CASE("incast: options that make no sense are refused by name") {
    init_types();
    auto x = two_sizes();
    CHECK_FALSE(check(x));
    x.processes = 4;
    CHECK(contains(text_of(check(x)), "--processes"));
    x = two_sizes();
    x.low_peers = 4;
    CHECK(contains(text_of(check(x)), "--low-peers"));
    x = two_sizes();
    x.sizes = {};
    CHECK(contains(text_of(check(x)), "sizes"));
}
