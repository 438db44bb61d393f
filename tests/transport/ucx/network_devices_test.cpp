// SPDX-License-Identifier: Apache-2.0
// Which network devices UCX gets, on made-up machines.
#include "messages/errors.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"
#include "transport/ucx/network_devices.hpp"
#include "transport/ucx/ucx_resources.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace kvferry;
using kvferry::testing::contains;

namespace {

const network_device lo{"lo", {"127.0.0.1", "::1"}};
const network_device eth0{"eth0", {"192.0.2.2", "fd00::2"}};
const network_device fast{"ib0", {"198.51.100.7"}, {"mlx5_0:1", "mlx5_0:2"}};
const network_device docker{"docker0", {"172.17.0.1"}};

} // namespace

TEST_CASE(
    "network devices: a rank that listens everywhere is reached at the addresses that lead out, "
    "IPv4 first; at others where there are none, or at those that are named") {
    const network_device lo{"lo", {"127.0.0.1", "::1"}, {}};
    const network_device eth0{"eth0", {"2001:db8::2", "192.0.2.2", "fe80::1"}, {}};
    const network_device docker{"docker0", {"172.17.0.1"}, {}};
    using hosts = std::vector<std::string>;
    CHECK(hosts_of({lo, eth0, docker}) == hosts{"192.0.2.2", "2001:db8::2"});
    CHECK(hosts_of({lo, docker}) == hosts{"172.17.0.1"});
    CHECK(hosts_of({lo}) == hosts{"127.0.0.1", "::1"});
    CHECK(hosts_of({lo, eth0, docker}, "lo") == hosts{"127.0.0.1", "::1"});
    CHECK(hosts_of({lo, eth0, docker}, "docker0,mlx5_0:1") == hosts{"172.17.0.1"});
    CHECK(hosts_of({lo, eth0}, "all") == hosts{"192.0.2.2", "2001:db8::2"});
}

TEST_CASE("network devices: UCX is held to the device that has the address") {
    const std::vector all{lo, eth0, fast, docker};
    CHECK(devices_for("192.0.2.2", all).value() == "eth0");
    CHECK(devices_for("fd00:0::2", all).value() == "eth0"); // another spelling
    CHECK(devices_for("198.51.100.7", all).value() == "ib0,mlx5_0:1,mlx5_0:2");
    for (const auto* loopback : {"127.0.0.1", "127.3.2.1", "localhost", "::1"})
        CHECK(devices_for(loopback, all).value() == "lo");
    auto nobodys = devices_for("203.0.113.9", all);
    CHECK(code_of(nobodys.error()) == errc::invalid_argument);
    CHECK(contains(text_of(nobodys.error()), "203.0.113.9"));
    CHECK(contains(text_of(nobodys.error()), "eth0 (192.0.2.2, fd00::2)"));
    CHECK(devices_for_advertised("203.0.113.9", all) == "lo,eth0,ib0,mlx5_0:1,mlx5_0:2");
}

TEST_CASE("network devices: without an address bridges to containers are left out") {
    for (const auto* none : {"", "0.0.0.0", "::", "some.host"})
        CHECK(devices_for(none, {docker, lo, eth0}).value() == "lo,eth0");
    CHECK(devices_for("", {lo, eth0}).value().empty());   // nothing to leave out: all
    CHECK(devices_for("", {lo, docker}).value().empty()); // nothing else leads out
    for (const auto* name : {"docker0", "virbr0", "veth12ab", "br-01234567"})
        CHECK(leads_to_containers(name));
    for (const auto* name : {"eth0", "lo", "br0", "bond0", "ib0", "enp1s0"})
        CHECK_FALSE(leads_to_containers(name));
}

TEST_CASE("network devices: a mistyped UCX_NET_DEVICES is refused, with the devices that exist") {
    const std::vector all{lo, eth0, fast};
    for (const auto* right : {"", "all", "eth0", "lo,eth0", "mlx5_0:1", "^eth0"})
        CHECK_FALSE(check_named_devices(right, all));
    const auto wrong = check_named_devices("lo,etho", all);
    CHECK(code_of(wrong) == errc::invalid_argument);
    CHECK(contains(text_of(wrong), "UCX_NET_DEVICES=lo,etho"));
    CHECK(contains(text_of(wrong), "etho here that is up; there are lo (127.0.0.1, ::1), eth0"));
}

TEST_CASE("network devices: those of this machine have lo with its address") {
    const auto all = network_devices();
    CHECK(std::any_of(all.begin(), all.end(), [](const network_device& x) {
        return x.name == "lo"
               && std::find(x.addresses.begin(), x.addresses.end(), "127.0.0.1")
                      != x.addresses.end();
    }));
}

TEST_CASE("ucx: transports that hide a death are no reason to start") {
    const auto problem = check_resources({{"self", "memory0"}, {"posix", "memory"}});
    CHECK(code_of(problem) == errc::unsupported);
    CHECK(contains(text_of(problem), "leave tcp in UCX_TLS"));
    CHECK_FALSE(check_resources({{"self", "memory0"}, {"tcp", "lo"}}));
}

TEST_CASE("ucx: versions that may end a process when a peer dies are known") {
    for (const auto* bad : {"1.13.1", "1.17.0", "1.0"})
        CHECK(contains(known_trouble(bad), bad));
    for (const auto* good : {"1.18.0", "1.20.1", "2.0.0", ""})
        CHECK(known_trouble(good).empty());
}
