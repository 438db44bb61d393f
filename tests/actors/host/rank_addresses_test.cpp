// SPDX-License-Identifier: Apache-2.0
// Where a rank listens and what it tells others, for hosts with several networks.
#include "actors/host/rank_addresses.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using kvferry::testing::contains;

namespace {

const std::vector<network_device> one_network{{"lo", {"127.0.0.1", "::1"}},
                                              {"eth0", {"192.0.2.7", "2001:db8::7"}},
                                              {"docker0", {"172.17.0.1"}}};
const std::vector<network_device> two_networks{
    {"lo", {"127.0.0.1"}}, {"eth0", {"192.0.2.7"}}, {"eth1", {"198.51.100.7"}}};

worker_options bound_to(std::string bind, std::string advertise = {}) {
    worker_options result;
    result.bind_address = std::move(bind);
    result.advertise = std::move(advertise);
    return result;
}

} // namespace

TEST_CASE(
    "rank_addresses: a rank that serves its own user only is on loopback, whatever it binds to") {
    const auto options = bound_to("0.0.0.0", "rank0.example");
    const rank_addresses at{options, security::mode::same_user, one_network, {}};
    CHECK(at.for_ucx() == "lo");
    CHECK(at.for_tcp().listen == "127.0.0.1");
    CHECK(at.for_tcp().hosts == std::vector<std::string>{"127.0.0.1"});

    const auto sixth = bound_to("::1");
    CHECK(rank_addresses{sixth, security::mode::same_user, one_network, {}}.for_tcp().listen
          == "::1");
}

TEST_CASE(
    "rank_addresses: peers dial the advertised address, else the one that is bound, else all but "
    "bridges of containers") {
    const auto dialled = [](const worker_options& options, std::string named = {}) {
        return rank_addresses{options, security::mode::insecure, one_network, std::move(named)}
            .for_tcp()
            .hosts;
    };
    using hosts = std::vector<std::string>;
    CHECK(dialled(bound_to("192.0.2.7")) == hosts{"192.0.2.7"});
    CHECK(dialled(bound_to("192.0.2.7", "203.0.113.1:4711")) == hosts{"203.0.113.1"});
    CHECK(dialled(bound_to("192.0.2.7", "rank0.example")) == hosts{"192.0.2.7"});
    const auto all = dialled(bound_to("0.0.0.0"));
    CHECK(std::find(all.begin(), all.end(), "192.0.2.7") != all.end());
    CHECK(std::find(all.begin(), all.end(), "172.17.0.1") == all.end());
    CHECK(dialled(bound_to("0.0.0.0"), "docker0") == hosts{"172.17.0.1"}); // by the operator's word
}

TEST_CASE("rank_addresses: a wildcard is never handed out") {
    const auto others = [](const worker_options& options, const std::string& host,
                           const std::vector<network_device>& devices) {
        return rank_addresses{options, security::mode::insecure, devices, {}}.for_others(
            {host, 4711});
    };
    CHECK(others(bound_to("192.0.2.7"), "192.0.2.7", one_network) == "192.0.2.7:4711");
    CHECK(others(bound_to("0.0.0.0"), "0.0.0.0", one_network) == "192.0.2.7:4711");
    CHECK(others(bound_to("0.0.0.0", "rank0.example"), "0.0.0.0", two_networks)
          == "rank0.example:4711");
    CHECK(others(bound_to("0.0.0.0", "rank0.example:99"), "0.0.0.0", two_networks)
          == "rank0.example:99");

    const auto unclear = others(bound_to("0.0.0.0"), "0.0.0.0", two_networks);
    REQUIRE_FALSE(unclear);
    CHECK(code_of(unclear.error()) == errc::invalid_argument);
    CHECK(contains(text_of(unclear.error()), "worker_options.advertise"));
    CHECK(contains(text_of(unclear.error()), "198.51.100.7"));
    for (const std::string nowhere :
         {"0.0.0.0", "0.0.0.0:99", "::", "::ffff:0.0.0.0", "not an address"}) {
        CAPTURE(nowhere);
        const auto options = bound_to("0.0.0.0", nowhere);
        CHECK_FALSE(others(options, "0.0.0.0", one_network));
        // A rank that serves no infos hands out where its wire and its door are.
        const rank_addresses at{options, security::mode::insecure, one_network, {}};
        CHECK(code_of(at.check_advertised()) == errc::invalid_argument);
    }
}
