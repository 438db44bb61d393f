// SPDX-License-Identifier: Apache-2.0
// Ranks on machines of their own, as far as the network can tell: what they do when it swallows
// everything and tells nobody. Network namespaces stand in for the machines.
#include "tests/processes/end_to_end.hpp"
#include "tests/processes/machines.hpp"
#include "tests/support/secret_file.hpp"

#include <cstdlib>
#include <unistd.h>

namespace kvferry::testing {

namespace {

using clock = std::chrono::steady_clock;

const std::string prefill_ipv6 = "fd99:1::2";
const std::string decode_ipv6 = "fd99:1::1";

/// Three machines, decode - prefill and decode - spare, with a cable each; decode forwards.
class machines {
public:
    machines() {
        for (const auto& each : {decode, prefill, spare})
            if (!shell("ip netns add " + each))
                return;
        if (why_not_ = try_visit(decode); !why_not_.empty())
            return;
        if (!connect("1", prefill, "p") || !connect("2", spare, "s")
            || !shell("ip netns exec " + decode
                      + " sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"))
            why_not_ = "cables need veth devices, and decode has to forward";
    }
    ~machines() {
        for (const auto& each : {decode, prefill, spare})
            shell("ip netns del " + each);
    }
    machines(const machines&) = delete;
    machines& operator=(const machines&) = delete;

    /// Empty: they work.
    const std::string& why_not() const { return why_not_; }

    template <class F>
    auto on(const std::string& machine, F what) {
        return run_on(machine, machine == decode ? "to_p" : "eth", what);
    }

    /// What decode sends to that address, or what that machine sends to decode, goes to nobody.
    void swallow_to(const std::string& address, const std::string& cable) {
        REQUIRE(shell("ip -n " + decode + " neigh replace " + address + nobody + cable));
    }
    void swallow_from(const std::string& machine, const std::string& decodes_address) {
        REQUIRE(shell("ip -n " + machine + " neigh replace " + decodes_address + nobody + "eth"));
    }
    void heal_to(const std::string& address, const std::string& cable) {
        shell("ip -n " + decode + " neigh del " + address + " dev " + cable);
    }
    void heal_from(const std::string& machine, const std::string& decodes_address) {
        shell("ip -n " + machine + " neigh del " + decodes_address + " dev eth");
    }
    /// Takes IPv4 from the cable between decode and prefill. False: there is no IPv6 here.
    bool have_ipv6_only() {
        return shell("ip -n " + decode + " addr add " + decode_ipv6 + "/64 dev to_p nodad")
               && shell("ip -n " + prefill + " addr add " + prefill_ipv6 + "/64 dev eth nodad")
               && shell("ip -n " + decode + " addr del 10.99.1.1/24 dev to_p")
               && shell("ip -n " + prefill + " addr del 10.99.1.2/24 dev eth");
    }
    /// One more device, which leads nowhere.
    static bool has_device(const std::string& machine, const std::string& name,
                           const std::string& address) {
        return (shell("ip -n " + machine + " link add " + name + " type dummy")
                || shell("ip -n " + machine + " link add " + name + " type bridge"))
               && shell("ip -n " + machine + " addr add " + address + " dev " + name)
               && shell("ip -n " + machine + " link set " + name + " up");
    }
    /// What decode sends to that network goes to nobody, and nobody says so.
    void lose_the_way_to(const std::string& network) {
        REQUIRE(shell("ip -n " + decode + " neigh replace 10.99.2.77" + nobody + "to_s"));
        REQUIRE(shell("ip -n " + decode + " route add " + network + " via 10.99.2.77 dev to_s"));
    }
    /// The processes that `what` starts know these names (as /etc/hosts has them).
    template <class F>
    static auto with_names(const std::string& names, F what) {
        const guest here;
        char path[] = "/tmp/kvferry-hosts-XXXXXX";
        const unique_fd file{::mkstemp(path)};
        REQUIRE(::write(file.get(), names.data(), names.size())
                == static_cast<ssize_t>(names.size()));
        REQUIRE(::unshare(CLONE_NEWNS) == 0);
        REQUIRE(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
        REQUIRE(::mount(path, "/etc/hosts", nullptr, MS_BIND, nullptr) == 0);
        ::unlink(path);
        return what();
    }
    /// The address of prefill leads to spare from now on.
    void move_prefill_to_spare() {
        REQUIRE(shell("ip -n " + spare + " addr add 10.99.1.2/32 dev eth"));
        REQUIRE(shell("ip -n " + decode + " route add 10.99.1.2/32 dev to_s"));
    }

    const std::string decode = "kvferry-d" + std::to_string(::getpid());
    const std::string prefill = "kvferry-p" + std::to_string(::getpid());
    const std::string spare = "kvferry-s" + std::to_string(::getpid());

private:
    inline static const std::string nobody = " lladdr 02:00:00:00:00:09 nud permanent dev ";

    bool connect(const std::string& net, const std::string& machine, const std::string& end) {
        const auto address = " addr add 10.99." + net + ".";
        return shell("ip -n " + decode + " link add to_" + end + " type veth peer name eth netns "
                     + machine)
               && shell("ip -n " + decode + address + "1/24 dev to_" + end)
               && shell("ip -n " + machine + address + "2/24 dev eth")
               && shell("ip -n " + decode + " link set to_" + end + " up")
               && shell("ip -n " + machine + " link set eth up")
               && shell("ip -n " + decode + " link set lo up")
               && shell("ip -n " + machine + " link set lo up")
               && shell("ip -n " + machine + " route add default via 10.99." + net + ".1")
               && is_up(machine, "eth") && is_up(decode, "to_" + end);
    }
    /// A new cable carries nothing for a moment, and a rank refuses to start on a device like that.
    static bool is_up(const std::string& machine, const std::string& device) {
        const auto until = clock::now() + 10s;
        while (!shell("ip -n " + machine + " link show " + device + " | grep -q 'state UP'"))
            if (clock::now() > until)
                return false;
        return true;
    }

    std::string why_not_ = "network namespaces need root and iproute2";
};

const std::string prefill_address = "10.99.1.2";
const std::string decode_address = "10.99.1.1";
const std::string spare_address = "10.99.2.2";

/// What ranks say of strangers.
std::vector<std::string> strangers = {"--insecure"};
/// The wire of all ranks.
std::string wire = "auto";

std::vector<std::string> flags_at(const std::string& address,
                                  const std::vector<std::string>& more = {}) {
    std::vector<std::string> result{"--bind",
                                    address,
                                    "--wire",
                                    wire,
                                    "--no-same-host-link",
                                    "--dial-deadline",
                                    "2000",
                                    "--link-health-interval",
                                    "200",
                                    "--link-patience",
                                    "1000"};
    result.insert(result.end(), strangers.begin(), strangers.end());
    result.insert(result.end(), more.begin(), more.end());
    return result;
}

using instance_ptr = std::unique_ptr<instance_processes>;

instance_ptr start(machines& net, const std::string& machine, const std::string& name,
                   const std::string& address, const std::vector<std::string>& more = {}) {
    return net.on(machine, [&] {
        return std::make_unique<instance_processes>(
            instance_processes::options{name, 1, 1, small_model, 64, flags_at(address, more)});
    });
}

/// True when a request goes well on both sides.
bool serves(instance_processes& context, instance_processes& generation,
            const std::string& endpoint, std::uint64_t rid) {
    auto x = whole_blocks(rid, 2, 16);
    receive(generation, endpoint, x, {{"deadline_ms", 4000}});
    send(context, x, {{"deadline_ms", 4000}});
    const auto ended = generation[0].outcome(rid).at("state");
    context[0].outcome(rid);
    if (ended != "KV_TRANSFERRED")
        return false;
    expect_content(generation[0], x);
    return true;
}

/// The first request may find out that a link is dead.
void expect_service(instance_processes& context, instance_processes& generation,
                    const std::string& endpoint, std::uint64_t rid) {
    for (int tries = 0; tries < 5; ++tries)
        if (serves(context, generation, endpoint, rid + static_cast<std::uint64_t>(tries)))
            return;
    FAIL(context[0].log() << generation[0].log());
}

/// A request that waits for a prefill that does not begin.
void begin_waiting(instance_processes& generation, const std::string& endpoint, std::uint64_t rid) {
    receive(generation, endpoint, {rid, {8, 9}, {8, 9}, 32, false}, {{"deadline_ms", 60000}});
}

void expect_link_lost(instance_processes& generation, std::uint64_t rid) {
    const auto began = clock::now();
    const auto outcome = generation[0].outcome(rid);
    INFO(outcome.dump());
    CHECK(outcome.at("state") == "ERROR");
    CHECK(outcome.at("error").at("code") == "link_lost");
    CHECK(clock::now() - began < 10s);
}

/// KVFERRY_SILENCE_SECONDS: for long runs.
std::chrono::seconds silence_wanted() {
    const char* wanted = std::getenv("KVFERRY_SILENCE_SECONDS");
    return std::chrono::seconds{wanted ? std::stoul(wanted) : 0};
}

/// Runs the test once with each.
#define ON_EACH_WIRE                                                                               \
    SUBCASE("tcp") {                                                                               \
        wire = "tcp";                                                                              \
    }                                                                                              \
    SUBCASE("ucx") {                                                                               \
        wire = "ucx";                                                                              \
    }

} // namespace

TEST_CASE(
    "network: silence of both ways or one ends what waits, and after it has healed all goes on") {
    ON_EACH_WIRE
    REQUIRE_MACHINES(machines, net)
    auto context = start(net, net.prefill, "context", prefill_address);
    auto generation = start(net, net.decode, "generation", decode_address);
    std::uint64_t rid = 1;
    expect_service(*context, *generation, context->endpoint, rid);
    for (const auto& [there, back] : {std::pair{true, true}, {true, false}, {false, true}}) {
        CAPTURE(there);
        CAPTURE(back);
        rid += 100;
        begin_waiting(*generation, context->endpoint, rid);
        REQUIRE(serves(*context, *generation, context->endpoint, rid + 1)); // both links are up
        if (there)
            net.swallow_to(prefill_address, "to_p");
        if (back)
            net.swallow_from(net.prefill, decode_address);
        const auto until = clock::now() + silence_wanted();
        expect_link_lost(*generation, rid);
        for (auto tried = rid + 10; clock::now() < until; ++tried)
            CHECK_FALSE(serves(*context, *generation, context->endpoint, tried));
        net.heal_to(prefill_address, "to_p");
        net.heal_from(net.prefill, decode_address);
        expect_service(*context, *generation, context->endpoint, rid + 2);
    }
}

TEST_CASE(
    "network: when a peer is gone for good, new work goes to whoever answers at its endpoint") {
    ON_EACH_WIRE
    REQUIRE_MACHINES(machines, net)
    auto context = start(net, net.prefill, "context", prefill_address);
    auto generation = start(net, net.decode, "generation", decode_address);
    expect_service(*context, *generation, context->endpoint, 1);
    const auto endpoint = context->endpoint;
    begin_waiting(*generation, endpoint, 100);
    REQUIRE(serves(*context, *generation, endpoint, 101));
    net.swallow_to(prefill_address, "to_p");
    net.swallow_from(net.prefill, decode_address);
    expect_link_lost(*generation, 100);
    net.move_prefill_to_spare();
    auto other = start(net, net.spare, "context", prefill_address,
                       {"--port", endpoint.substr(endpoint.rfind(':') + 1)});
    expect_service(*other, *generation, endpoint, 200);
}

TEST_CASE("network: a peer that answers no dial holds up nobody else") {
    ON_EACH_WIRE
    REQUIRE_MACHINES(machines, net)
    auto healthy = start(net, net.spare, "healthy", spare_address);
    const auto rank = [&](const std::string& machine, unsigned number,
                          std::vector<std::string> flags) {
        std::vector<std::string> words{"--instance", "half_dark",
                                       "--layout",   "tp=2,tp_rank=" + std::to_string(number),
                                       "--model",    small_model};
        words.insert(words.end(), flags.begin(), flags.end());
        return net.on(machine, [&] { return std::make_unique<rank_process>(words); });
    };
    auto first = rank(net.spare, 0, flags_at(spare_address));
    const auto endpoint = first->info_endpoint();
    auto dark =
        rank(net.prefill, 1,
             {"--info-endpoint", endpoint, "--no-same-host-link", "--wire", wire, "--insecure"});
    dark->ready();
    auto generation = start(net, net.decode, "generation", decode_address);
    expect_service(*healthy, *generation, healthy->endpoint, 1);
    net.swallow_to(prefill_address, "to_p");
    begin_waiting(*generation, endpoint, 100);
    const auto began = clock::now();
    for (std::uint64_t rid = 101; rid < 111; ++rid)
        CHECK(serves(*healthy, *generation, healthy->endpoint, rid));
    CHECK((*generation)[0].ask({{"do", "statistics"}}).at("handler_failures") == 0);
    CHECK(clock::now() - began < 10s);
    const auto outcome = (*generation)[0].outcome(100);
    INFO(outcome.dump());
    CHECK(outcome.at("error").at("code") == "dial_failed");
}

TEST_CASE(
    "network: ranks between which there is IPv6 alone reach each other over our own sockets") {
    wire = "tcp";
    REQUIRE_MACHINES(machines, net)
    if (!net.have_ipv6_only()) {
        MESSAGE("this machine has no IPv6");
        return;
    }
    auto context = start(net, net.prefill, "context", prefill_ipv6);
    auto generation = start(net, net.decode, "generation", decode_ipv6);
    CHECK(context->endpoint.starts_with("["));
    expect_service(*context, *generation, context->endpoint, 1);
    expect_clean_stop(*generation);
    expect_clean_stop(*context);
}

TEST_CASE("network: on all addresses ranks find each other, whatever other devices their machines "
          "have, and whether an endpoint names its host or its address") {
    ON_EACH_WIRE
    REQUIRE_MACHINES(machines, net)
    std::string named = prefill_address;
    SUBCASE("each has a bridge of the same address") {
        for (const auto& machine : {net.prefill, net.decode})
            REQUIRE(net.has_device(machine, "docker0", "172.17.0.1/16"));
    }
    SUBCASE("one has a second network to which there is no way") {
        REQUIRE(net.has_device(net.prefill, "eth1", "10.98.0.2/24"));
    }
    SUBCASE("one has a second network that swallows what is sent there") {
        REQUIRE(net.has_device(net.prefill, "eth1", "10.98.0.2/24"));
        net.lose_the_way_to("10.98.0.0/24");
    }
    SUBCASE("the endpoint has a name") {
        named = "prefill.test";
    }
    // A machine with several networks must say how others call it; a name binds it to none of them.
    auto context = start(net, net.prefill, "context", "0.0.0.0", {"--advertise", "prefill.test"});
    auto generation =
        net.with_names("127.0.0.1 localhost\n" + prefill_address + " prefill.test\n", [&] {
            return start(net, net.decode, "generation", "0.0.0.0",
                         {"--advertise", decode_address}); // it has two networks
        });
    expect_service(*context, *generation,
                   named + context->endpoint.substr(context->endpoint.rfind(':')), 1);
    expect_clean_stop(*generation);
    expect_clean_stop(*context);
}

TEST_CASE(
    "network: with a secret machines serve each other, all of it encrypted or with plain bulk, and "
    "a third one without it gets nothing and hears why") {
    wire = "tcp";
    REQUIRE_MACHINES(machines, net)
    const secret_file ours{secret_one};
    const secret_file theirs{secret_two};
    for (const bool plain_bulk : {false, true}) {
        CAPTURE(plain_bulk);
        strangers = {"--secret-file", ours.path()};
        if (plain_bulk)
            strangers.push_back("--plain-bulk");
        auto context = start(net, net.prefill, "context", prefill_address);
        auto generation = start(net, net.decode, "generation", decode_address);
        const auto x = whole_blocks(50, 2, 16);
        send(*context, x);
        for (const auto& of_stranger :
             {std::vector<std::string>{"--insecure"}, {"--secret-file", theirs.path()}}) {
            strangers = of_stranger;
            auto stranger = start(net, net.spare, "generation", spare_address);
            receive(*stranger, context->endpoint, x, {{"deadline_ms", 4000}});
            const auto outcome = (*stranger)[0].outcome(x.rid);
            INFO(outcome.dump());
            CHECK(outcome.at("error").at("code") == "foreign_peer");
        }
        strangers = {"--insecure"};
        receive(*generation, context->endpoint, x);
        CHECK((*generation)[0].outcome(x.rid).at("state") == "KV_TRANSFERRED");
        expect_content((*generation)[0], x);
        expect_clean_stop(*generation);
        expect_clean_stop(*context);
    }
}

} // namespace kvferry::testing
