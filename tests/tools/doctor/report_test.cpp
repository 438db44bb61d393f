// SPDX-License-Identifier: Apache-2.0
// The doctor's judgement on made-up machines, and its look at this one.
#include "messages/limits.hpp"
#include "messages/version.hpp"
#include "tests/support/contains.hpp"
#include "tools/doctor/report.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

using namespace kvferry;
using namespace kvferry::doctor;
using kvferry::testing::contains;

namespace {

/// A machine with everything: RDMA, huge pages, two GPUs that reach each other.
machine_facts rich_machine() {
    machine_facts facts;
    facts.ucx = ucx_abilities{
        "1.18.0", {{"self", "memory0"}, {"tcp", "lo"}, {"tcp", "eth0"}, {"rc_mlx5", "mlx5_0:1"}}};
    facts.devices = {{"lo", {"127.0.0.1"}}, {"eth0", {"192.0.2.2"}, {"mlx5_0:1"}}};
    facts.strangers = "every connection needs the deployment secret 0a1b";
    facts.strangers_mode = "secret";
    facts.transfer_route = {route::mapped, "mapped"};
    facts.descriptors_max = 1024;
    facts.descriptors_hard_max = 1 << 20;
    facts.huge_page_bytes = std::uint64_t{2} << 20;
    facts.huge_pages = 512;
    facts.huge_pages_free = 500;
    facts.gpus = {{0, "GPU", std::uint64_t{80} << 30, {1}},
                  {1, "GPU", std::uint64_t{80} << 30, {0}}};
    facts.cuda_driver_version = 13010;
    facts.cuda_built_in = true;
    return facts;
}

/// TCP only, nothing reserved, no GPU.
machine_facts poor_machine() {
    machine_facts facts;
    facts.ucx = ucx_abilities{"1.13.1", {{"posix", "memory"}, {"tcp", "lo"}}};
    facts.devices = {{"lo", {"127.0.0.1"}}};
    facts.strangers = "no deployment secret: only processes of user 0";
    facts.strangers_mode = "same_user";
    facts.transfer_route = {route::mapped, "mapped"};
    facts.huge_page_bytes = std::uint64_t{2} << 20;
    facts.lock_bytes_max = std::uint64_t{8} << 20;
    facts.cuda_error = "libcuda.so.1 was not found";
    return facts;
}

const finding& find(const report& in, const std::string& name) {
    auto found = std::find_if(in.findings.begin(), in.findings.end(),
                              [&name](const auto& x) { return x.name == name; });
    REQUIRE(found != in.findings.end());
    return *found;
}

const route_finding& find(const report& in, const std::string& memory, const std::string& peer) {
    auto found = std::find_if(in.routes.begin(), in.routes.end(),
                              [&](const auto& x) { return x.memory == memory && x.peer == peer; });
    REQUIRE(found != in.routes.end());
    return *found;
}

} // namespace

TEST_CASE("doctor: what works needs no remedy, what does not has one") {
    for (const auto& facts : {rich_machine(), poor_machine(), machine_facts{}})
        for (const auto& x : judge(facts).findings) {
            INFO(x.name, ": ", x.text);
            CHECK(x.remedy.empty() == (x.is == state::works));
        }
}

TEST_CASE("doctor: who may talk to a rank is said, and a secret that is none makes it unusable") {
    auto facts = poor_machine();
    CHECK(find(judge(facts), "strangers").is == state::limited);
    CHECK(contains(find(judge(facts), "strangers").remedy, "KVFERRY_SECRET_FILE"));
    facts.strangers_mode = "secret";
    CHECK(find(judge(facts), "strangers").is == state::works);
    facts.secret_error = "secret file /x: users other than its owner may read it";
    CHECK(find(judge(facts), "strangers").is == state::missing);
    CHECK_FALSE(judge(facts).usable());
    CHECK(find(judge(rich_machine()), "strangers").is == state::works);
}

TEST_CASE("doctor: a machine with everything has no limits") {
    const auto found = judge(rich_machine());
    CHECK(found.usable());
    for (const auto& x : found.findings) {
        INFO(x.name, ": ", x.text);
        CHECK(x.is == state::works);
    }
    CHECK(find(found, "ucx").text == "1.18.0: tcp on lo, eth0; rc_mlx5 on mlx5_0:1");
    CHECK(find(found, "rdma").text == "rc_mlx5 on mlx5_0:1");
    CHECK(find(found, "cuda").text == "2 devices, the driver speaks CUDA 13.1");
}

TEST_CASE("doctor: a poor machine is usable, and is told what it lacks") {
    const auto found = judge(poor_machine());
    CHECK(found.usable());
    for (const auto* name : {"rdma", "huge_pages", "cuda"})
        CHECK(find(found, name).is == state::limited);
    // Without RDMA nothing locks memory, so the limit does not matter.
    CHECK(find(found, "locked_memory").is == state::works);
}

TEST_CASE("doctor: a limit on locked memory matters where RDMA is") {
    auto facts = rich_machine();
    facts.lock_bytes_max = std::uint64_t{8} << 20;
    const auto found = judge(facts);
    CHECK(find(found, "locked_memory").is == state::limited);
    CHECK(contains(find(found, "locked_memory").text, "8.0 MiB"));
}

TEST_CASE("doctor: without UCX, or with transports of it that hide a death, ranks use tcp") {
    auto none = poor_machine();
    none.ucx.reset();
    none.ucx_error = "ucp_init: No such device";
    CHECK(judge(none).usable());
    CHECK(find(judge(none), "ucx").is == state::limited);
    CHECK(contains(find(judge(none), "ucx").text, "No such device"));
    CHECK(find(judge(none), "host_private", "another machine").route == "direct");
    CHECK(contains(find(judge(none), "wire").text, "tcp"));
    auto silent = poor_machine();
    silent.ucx->resources = {{"posix", "memory"}, {"self", "memory0"}};
    CHECK(judge(silent).usable());
    CHECK(find(judge(silent), "ucx").is == state::limited);
}

TEST_CASE("doctor: the wire is ucx where there is an RDMA adapter that UCX can use") {
    CHECK(contains(find(judge(poor_machine()), "wire").text, "tcp: this process sees no RDMA"));
    auto rich = rich_machine();
    rich.rdma_adapters = {"mlx5_0"};
    CHECK(contains(find(judge(rich), "wire").text, "ucx over RDMA"));
    auto idle = poor_machine();
    idle.rdma_adapters = {"mlx5_0"};
    CHECK(find(judge(idle), "wire").is == state::limited);
    CHECK(contains(find(judge(idle), "wire").text, "mlx5_0"));
}

TEST_CASE("doctor: shared memory is mapped on one machine, everything else goes direct") {
    const auto found = judge(poor_machine());
    CHECK(find(found, "host_shared", "this machine").route == "mapped");
    CHECK(find(found, "host_shared", "another machine").route == "direct");
    CHECK(find(found, "host_private", "this machine").route == "direct");
    CHECK(contains(find(found, "host_private", "this machine").why, "cannot be mapped"));
    CHECK(contains(find(found, "host_private", "another machine").why, "another machine"));
}

TEST_CASE("doctor: a same-host link that cannot be made is the reason for the direct route") {
    auto facts = poor_machine();
    facts.link_error = "pidfd_open: Function not implemented";
    const auto found = judge(facts);
    CHECK(find(found, "same_host_link").is == state::limited);
    CHECK(find(found, "host_shared", "this machine").route == "direct");
    CHECK(contains(find(found, "host_shared", "this machine").why, "Function not implemented"));
}

TEST_CASE("doctor: device memory is mapped on one machine by kernels, and goes nowhere else") {
    auto facts = rich_machine();
    CHECK(find(judge(facts), "cuda", "this machine").route == "mapped");
    CHECK(find(judge(facts), "cuda", "another machine").route == "staged");
    CHECK(contains(find(judge(facts), "cuda", "another machine").why, "another machine; messages"));
    facts.cuda_built_in = false;
    CHECK(find(judge(facts), "cuda", "this machine").route == "none");
    CHECK(find(judge(poor_machine()), "cuda", "this machine").route == "none");
    CHECK(contains(find(judge(poor_machine()), "cuda", "this machine").why, "no device"));
}

TEST_CASE(
    "doctor: where a rank does not start, or no block gets across, nothing is called working") {
    auto facts = poor_machine();
    facts.rank_error = "loop thread: Resource temporarily unavailable";
    CHECK_FALSE(judge(facts).usable());
    CHECK(contains(find(judge(facts), "ranks").text, "loop thread"));
    facts = poor_machine();
    facts.transfer_error = "link to doctor-context/0: no link within dial_deadline";
    CHECK_FALSE(judge(facts).usable());
}

TEST_CASE("doctor: a route is called mapped only when a block has taken it") {
    auto facts = poor_machine();
    facts.transfer_route = {route::direct,
                            "direct: the peer's region is mapped shorter than announced"};
    const auto found = find(judge(facts), "host_shared", "this machine");
    CHECK(found.route == "direct");
    CHECK(contains(found.why, "mapped shorter than announced"));
}

TEST_CASE("doctor: few descriptors are told with the number of peers that they are enough for") {
    auto facts = poor_machine();
    constexpr auto kept = descriptors_of_a_rank + descriptors_reserve;
    facts.descriptors_max = facts.descriptors_hard_max = kept + 12 * descriptors_of_a_peer;
    const auto found = judge(facts);
    CHECK(find(found, "descriptors").is == state::limited);
    CHECK(contains(find(found, "descriptors").text, "one rank with 12 peers"));
    facts.descriptors_hard_max = 1 << 20; // ranks raise the soft limit themselves
    CHECK(find(judge(facts), "descriptors").is == state::works);
}

TEST_CASE("doctor: bridges to containers are not used, and a warning where they are asked for") {
    auto facts = poor_machine();
    facts.devices.push_back({"docker0", {"172.17.0.1"}});
    CHECK(find(judge(facts), "network").is == state::works);
    CHECK(contains(find(judge(facts), "network").text, "not used: docker0"));
    facts.net_devices = "lo,docker0";
    CHECK(find(judge(facts), "network").is == state::limited);
    CHECK(contains(find(judge(facts), "network").text, "docker0 (172.17.0.1)"));
}

TEST_CASE("doctor: it says which release it is, and what is known of this version of UCX") {
    CHECK(find(judge(poor_machine()), "kvferry").text == version());
    CHECK(find(judge(poor_machine()), "ucx").is == state::limited);
    CHECK(contains(find(judge(poor_machine()), "ucx").text, "may abort this process"));
    CHECK(find(judge(rich_machine()), "ucx").is == state::works);
}

TEST_CASE("doctor: GPUs that do not reach each other are named") {
    auto facts = rich_machine();
    facts.gpus[1].peers.clear();
    const auto found = judge(facts);
    CHECK(find(found, "cuda_0").is == state::works);
    CHECK(find(found, "cuda_1").is == state::limited);
    CHECK(contains(find(found, "cuda_1").text, "addresses no other"));
}

TEST_CASE("doctor: devices without kernels in the build are not called working") {
    auto facts = rich_machine();
    facts.cuda_built_in = false;
    CHECK(find(judge(facts), "cuda").is == state::limited);
}

TEST_CASE("doctor: the JSON says what the text says") {
    const auto found = judge(poor_machine());
    const auto json = nlohmann::json::parse(to_json(found));
    CHECK(json["usable"] == true);
    CHECK(json["findings"].size() == found.findings.size());
    CHECK(json["routes"].size() == found.routes.size());
    for (const auto& x : json["findings"])
        CHECK(contains(to_text(found), x["text"].get<std::string>()));
}

TEST_CASE("doctor: this machine runs these tests, so kvferry works on it") {
    const auto facts = look();
    CHECK(facts.ucx_error == "");
    CHECK(facts.link_error == "");
    CHECK(facts.memfd_error == "");
    CHECK(facts.huge_page_bytes >= 4096);
    CHECK(facts.rank_error == "");
    CHECK(facts.transfer_error == "");
    CHECK(facts.transfer_route.way == route::mapped);
    CHECK(judge(facts).usable());
    // A second look succeeds: the first one left nothing behind.
    CHECK(look().link_error == "");
}

TEST_CASE("doctor: UCX's listing is read, each pair once, other lines not") {
    const auto found =
        parse_resources("#\n#     component 1  :  tcp\n"
                        "#            md 1  :  component 1  tcp \n"
                        "#      resource 1  :  md 1  dev 1  flags -- tcp/lo\n"
                        "#      resource 1  :  md 1  dev 1  flags -- tcp/lo\n"
                        "#      resource 2  :  md 4  dev 2  flags -- rc_verbs/mlx5_0:1\n"
                        "#      resource 3\n");
    CHECK(found == std::vector<ucx_resource>{{"tcp", "lo"}, {"rc_verbs", "mlx5_0:1"}});
}
