// SPDX-License-Identifier: Apache-2.0
// Which wires a rank takes.
#include "actors/shared/wire_choice.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

TEST_CASE("wires: without an adapter a rank never starts UCX by itself, and with one UCX's own TCP "
          "stays off; by name a host gets what it names") {
    const auto plain = wires_for(wire_choice::automatic, false);
    CHECK(plain.tcp);
    CHECK_FALSE(plain.ucx);
    const auto rdma = wires_for(wire_choice::automatic, true);
    CHECK(rdma.tcp);
    CHECK(rdma.ucx);
    CHECK_FALSE(rdma.ucx_over_tcp);
    for (bool adapter : {false, true}) {
        const auto ucx = wires_for(wire_choice::ucx, adapter);
        CHECK(ucx.ucx);
        CHECK(ucx.ucx_over_tcp);
        CHECK_FALSE(ucx.tcp);
        const auto tcp = wires_for(wire_choice::tcp, adapter);
        CHECK(tcp.tcp);
        CHECK_FALSE(tcp.ucx);
    }
}

TEST_CASE("wires: names are read as they are written") {
    for (auto choice : {wire_choice::automatic, wire_choice::ucx, wire_choice::tcp}) {
        const auto read = parse_wire_choice(to_string(choice));
        REQUIRE(read);
        CHECK(*read == choice);
    }
    CHECK(code_of(parse_wire_choice("carrier pigeon").error()) == errc::invalid_argument);
}
