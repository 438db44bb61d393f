// SPDX-License-Identifier: Apache-2.0
// Names of addresses to listen at.
#include "actors/host/own_address.hpp"
#include "tests/actors/instance/hanging_resolver.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace std::chrono_literals;
using kvferry::testing::contains;
using kvferry::testing::hanging_resolver;

TEST_CASE("own_address: addresses and localhost need no resolver") {
    hanging_resolver resolver;
    for (const std::string address : {"127.0.0.1", "0.0.0.0", "::1", "192.0.2.7"})
        CHECK(address_of(address, 1ms, resolver.lookup) == address);
    CHECK(address_of("localhost", 1ms, resolver.lookup) == "127.0.0.1");
    for (const std::string place : {"127.0.0.1:9464", "[::1]:0", "nonsense", ":1", ""})
        CHECK(place_of(place, 1ms, resolver.lookup) == place);
    CHECK(place_of("localhost:0", 1ms, resolver.lookup) == "127.0.0.1:0");
    CHECK(*resolver.calls == 0);
    resolver.go->set_value();
}

TEST_CASE("own_address: a name is looked up, and waited for no longer than asked") {
    hanging_resolver resolver;
    for (const auto& problem : {address_of("slow.example", 20ms, resolver.lookup).error(),
                                place_of("slow.example:1", 20ms, resolver.lookup).error()}) {
        CHECK(code_of(problem) == errc::deadline_exceeded);
        CHECK(contains(text_of(problem), "looking up slow.example took longer than "));
    }
    resolver.go->set_value();
    CHECK(address_of("slow.example", 20s, resolver.lookup) == "127.0.0.1");
    CHECK(place_of("slow.example:9464", 20s, resolver.lookup) == "127.0.0.1:9464");
}
