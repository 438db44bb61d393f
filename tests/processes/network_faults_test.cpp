// SPDX-License-Identifier: Apache-2.0
// Two machines with a bad cable between them. A transfer is under way when something happens to the
// network or to the other machine: both hosts hear of it in time, pages come back with proof,
// nothing is left behind or spins, and when all is well again so is the next request, without a
// restart.
#include "tests/processes/end_to_end.hpp"
#include "tests/processes/two_machines.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>

namespace kvferry::testing {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto dial_deadline = 4000ms;
/// Both deadlines of a session.
constexpr auto session_deadline = 20s;
/// 64 MiB, at a rate at which every fault strikes in the middle.
constexpr unsigned blocks = 128;
constexpr std::uint64_t steady_rate = 40'000'000;

/// A block has 4 KiB.
const std::string tiny_model = "layers=2,heads=4,head_dim=8,element_bytes=2,tokens_per_block=16";

/// KVFERRY_SILENCE_SECONDS: how long a fault lasts; 0: until both hosts have heard of it.
std::chrono::seconds silence_wanted() {
    const char* wanted = std::getenv("KVFERRY_SILENCE_SECONDS");
    return std::chrono::seconds{wanted ? std::stoul(wanted) : 0};
}

/// KVFERRY_FAULT: the name of the only one that strikes.
bool is_wanted(const std::string& name) {
    const char* only = std::getenv("KVFERRY_FAULT");
    return !only || name == only;
}

struct holding {
    std::size_t descriptors = 0;
    std::size_t threads = 0;

    friend bool operator<=(const holding& a, const holding& b) {
        return a.descriptors <= b.descriptors && a.threads <= b.threads;
    }
};

holding held_by(const rank_process& x) {
    const std::filesystem::directory_iterator tasks{"/proc/" + std::to_string(x.pid()) + "/task"};
    return {x.descriptors(), static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)))};
}

using instance_ptr = std::unique_ptr<instance_processes>;

/// What both hosts saw of one fault.
struct seen {
    std::string heard_by_context, heard_by_generation;
    std::string pages;
    std::chrono::milliseconds next{0};
};

std::string in_seconds(clock::duration x) {
    const auto tenths = std::chrono::duration_cast<std::chrono::milliseconds>(x).count() / 100;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

class fault_run {
public:
    /// `meets`: the two have served a request before.
    explicit fault_run(two_machines& net, std::string wire, std::string model = large_model,
                       bool meets = true, std::chrono::milliseconds link_patience = 1000ms)
        : net_(net), wire_(std::move(wire)), model_(std::move(model)),
          link_patience_(link_patience) {
        context = start(net_.prefill, "context", prefill_address, {});
        generation = start(net_.decode, "generation", decode_address, {});
        if (!meets)
            return;
        meet(1);
        meet(2); // sockets for bulk, and back
        at_rest_[0] = held_by((*context)[0]);
        at_rest_[1] = held_by((*generation)[0]);
    }

    instance_ptr start(const std::string& machine, const std::string& name,
                       const std::string& address, const std::vector<std::string>& more) {
        std::vector<std::string> flags{"--bind",
                                       address,
                                       "--wire",
                                       wire_,
                                       "--insecure",
                                       "--no-same-host-link",
                                       "--dial-deadline",
                                       std::to_string(dial_deadline.count()),
                                       "--link-health-interval",
                                       "200",
                                       "--link-patience",
                                       std::to_string(link_patience_.count())};
        flags.insert(flags.end(), more.begin(), more.end());
        return run_on(machine, "eth", [&] {
            return std::make_unique<instance_processes>(instance_processes::options{
                name,
                1,
                1,
                model_,
                blocks + spare_blocks,
                std::move(flags),
                {.under = {"env", "KVFERRY_LOG=info"}}}); // the thread that logs is there at once
        });
    }

    /// The context's machine has a new process at the same endpoint.
    void restart_context() {
        const auto port = context->endpoint.substr(context->endpoint.rfind(':') + 1);
        context = start(net_.prefill, "context", prefill_address, {"--port", port});
        restarted_ = true;
    }

    /// The large request; returns when its first bytes have arrived.
    request begin(std::uint64_t rid) {
        net_.cable->set_both({.bytes_per_second = steady_rate});
        auto x = whole_blocks(rid, blocks, 32);
        const json bounded{{"deadline_ms", std::chrono::milliseconds{session_deadline}.count()}};
        send(*context, x, bounded);
        receive(*generation, context->endpoint, x, bounded);
        await_block((*generation)[0], x, 0);
        return x;
    }

    /// A small request on slots of its own succeeds at the first try.
    std::chrono::milliseconds meet(std::uint64_t rid) {
        auto x = whole_blocks(rid, spare_blocks, 16, blocks);
        x.prompt_tokens = spare_blocks * (model_ == large_model ? 32 : 16);
        const auto began = clock::now();
        receive(*generation, context->endpoint, x);
        send(*context, x);
        expect_success((*generation)[0], x, "direct");
        const auto took = clock::now() - began;
        expect_success((*context)[0], x, "direct");
        expect_content((*generation)[0], x);
        return std::chrono::duration_cast<std::chrono::milliseconds>(took);
    }

    /// What its host hears, and how long after the fault.
    std::string hears(rank_process& rank, std::uint64_t rid, clock::time_point since) {
        const auto outcome = rank.outcome(rid, session_deadline + 10s);
        INFO(outcome.dump());
        CHECK(outcome.at("state") == "ERROR");
        CHECK(clock::now() - since < session_deadline + 5s);
        return outcome.at("error").at("code").get<std::string>() + " after "
               + in_seconds(clock::now() - since);
    }

    /// Less than two hundredths of a core while nothing can be done. What the outcome has left to
    /// do (a flight recording is written) may take a while.
    void expect_idle() {
        std::vector<rank_process*> all{&(*generation)[0]};
        if (!restarted_ && !context_is_gone)
            all.push_back(&(*context)[0]);
        double most = 1;
        for (int looks = 0; looks < 3 && most >= 0.02; ++looks)
            most = busiest(all);
        CHECK(most < 0.02);
    }

    /// Of these, the largest part of a core.
    static double busiest(const std::vector<rank_process*>& all) {
        std::vector<std::uint64_t> before;
        for (auto* each : all)
            before.push_back(each->processor_time());
        const auto began = clock::now();
        // The ranks answer only to their deadlines and timers here.
        for (const auto until = began + std::max<clock::duration>(silence_wanted(), 1s);
             clock::now() < until;)
            ::poll(nullptr, 0, 50);
        const auto wall = static_cast<double>((clock::now() - began).count());
        double most = 0;
        for (std::size_t each = 0; each < all.size(); ++each)
            most = std::max(most,
                            static_cast<double>(all[each]->processor_time() - before[each]) / wall);
        return most;
    }

    void expect_nothing_left() {
        const auto settled = [&](const instance_ptr& which, holding before) {
            if (wire_ == "ucx") // it closes sockets of lost links late: one to three were left
                before.descriptors += 4;
            const auto until = clock::now() + 20s; // former sockets end by their own keepalive
            while (!(held_by((*which)[0]) <= before) && clock::now() < until)
                ::poll(nullptr, 0, 50);
            const auto now = held_by((*which)[0]);
            CHECK(now.descriptors <= before.descriptors);
            CHECK(now.threads <= before.threads);
        };
        if (!restarted_ && at_rest_[0].threads > 0)
            settled(context, at_rest_[0]);
        if (at_rest_[1].threads > 0)
            settled(generation, at_rest_[1]);
        expect_clean_stop(*generation);
        expect_clean_stop(*context);
    }

    instance_ptr context;
    instance_ptr generation;
    bool context_is_gone = false;

private:
    static constexpr unsigned spare_blocks = 2;

    two_machines& net_;
    std::string wire_;
    std::string model_;
    std::chrono::milliseconds link_patience_;
    holding at_rest_[2];
    bool restarted_ = false;
};

struct fault {
    std::string name;
    std::function<void(two_machines&, fault_run&)> strikes;
    std::function<void(two_machines&, fault_run&)> heals;
    /// A frozen process hears nothing before it is thawed.
    bool generation_is_frozen = false;
    bool context_dies = false;
};

std::vector<fault> faults() {
    const auto heal = [](two_machines& net, fault_run&) { net.cable->heal(); };
    const auto silent = [](bool there, bool back) {
        return [there, back](two_machines& net, fault_run&) {
            net.cable->set(bad_cable::a_to_b, {.silent = there});
            net.cable->set(bad_cable::b_to_a, {.silent = back});
        };
    };
    const auto link = [](const char* state) {
        return [state](two_machines& net, fault_run&) {
            net.cable->heal();
            REQUIRE(shell("ip -n " + net.prefill + " link set eth " + state));
        };
    };
    return {
        {"silence both ways", silent(true, true), heal},
        {"silence towards the context", silent(true, false), heal},
        {"silence towards the generation", silent(false, true), heal},
        {"link down, then up", link("down"), link("up")},
        {"reset of every connection",
         [](two_machines& net, fault_run& run) {
             net.cable->heal();
             (*run.context)[0].break_connections();
         },
         heal},
        {"context gone without a word",
         [](two_machines& net, fault_run& run) {
             net.cable->set_both({.silent = true});
             run.context_is_gone = true;
             (*run.context)[0].kill();
             (*run.context)[0].wait_for_end();
         },
         [](two_machines& net, fault_run& run) {
             net.cable->heal();
             run.restart_context();
         },
         false, true},
        {"generation frozen",
         [](two_machines& net, fault_run& run) {
             net.cable->heal();
             (*run.generation)[0].freeze();
         },
         [](two_machines&, fault_run& run) { (*run.generation)[0].thaw(); }, true},
    };
}

std::string released_after(rank_process& rank, std::uint64_t rid, clock::time_point since) {
    rank.released(rid, 20s);
    return in_seconds(clock::now() - since);
}

std::uint16_t port_of_infos(const instance_processes& x) {
    return static_cast<std::uint16_t>(std::stoul(x.endpoint.substr(x.endpoint.rfind(':') + 1)));
}

/// From then on this machine knows the other one's link address: finding it takes a round trip.
void learn_way_to(const std::string& endpoint) {
    const unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const auto colon = endpoint.rfind(':');
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoul(endpoint.substr(colon + 1))));
    REQUIRE(::inet_pton(AF_INET, endpoint.substr(0, colon).c_str(), &to.sin_addr) == 1);
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
}

void suffer(const std::string& wire, const fault& x) {
    REQUIRE_MACHINES(two_machines, net)
    CAPTURE(x.name);
    fault_run run{net, wire};
    auto& generation = (*run.generation)[0];
    const auto large = run.begin(10);
    const auto struck = clock::now();
    x.strikes(net, run);
    seen result;
    result.heard_by_context =
        x.context_dies ? "-" : run.hears((*run.context)[0], large.rid, struck);
    if (!x.generation_is_frozen) {
        result.heard_by_generation = run.hears(generation, large.rid, struck);
        // Only its own loop writes: its pages need no word of a peer that is out of reach.
        result.pages = released_after(generation, large.rid, struck);
        run.expect_idle();
    }
    const auto healed = clock::now();
    x.heals(net, run);
    if (x.generation_is_frozen) {
        result.heard_by_generation = run.hears(generation, large.rid, healed) + " it was thawed";
        result.pages = released_after(generation, large.rid, healed);
    }
    result.next = run.meet(20);
    CHECK(result.next < dial_deadline);
    if (!x.context_dies)
        (*run.context)[0].released(large.rid);
    run.expect_nothing_left();
    std::cout << "| " << wire << " | " << x.name << " | " << result.heard_by_context << " | "
              << result.heard_by_generation << " | " << result.pages << " | "
              << in_seconds(result.next) << " |" << std::endl;
}

} // namespace

TEST_CASE("network faults: a steady request takes one round trip: nothing that its machine sends "
          "behind it needs to arrive") {
    REQUIRE_MACHINES(two_machines, net)
    fault_run run{net, "tcp", tiny_model};
    auto& context = (*run.context)[0];
    const request x{30, {1}, {2}, 16, false}; // small enough to need no acknowledgement
    REQUIRE(context.ask({{"do", "open"}, {"rid", x.rid}, {"aux", false}}).at("event") == "opened");
    receive(*run.generation, run.context->endpoint, x);
    const auto asked = [&] {
        return context.ask({{"do", "status"}, {"rid", x.rid}}).at("state") == "READY";
    };
    for (const auto until = clock::now() + 10s; !asked();)
        REQUIRE(clock::now() < until);
    net.cable->set(bad_cable::a_to_b, {.silent = true});
    send(*run.context, x);
    expect_success((*run.generation)[0], x, "direct");
    expect_content((*run.generation)[0], x);
    CHECK(context.unread("outcome") == 0); // it cannot know
    net.cable->heal();
    expect_success(context, x, "direct");
    run.expect_nothing_left();
}

TEST_CASE("network faults: a first request comes with its rank's introduction: it is heard before "
          "the rank that it is for has said a word") {
    REQUIRE_MACHINES(two_machines, net)
    fault_run run{net, "tcp", tiny_model, false};
    auto& context = (*run.context)[0];
    const request x{30, {1}, {2}, 16, false};
    REQUIRE(context.ask({{"do", "open"}, {"rid", x.rid}, {"aux", false}}).at("event") == "opened");
    net.cable->set(bad_cable::b_to_a, {.words_only_of_port = port_of_infos(*run.context)});
    receive(*run.generation, run.context->endpoint, x);
    const auto asked = [&] {
        return context.ask({{"do", "status"}, {"rid", x.rid}}).at("state") == "READY";
    };
    for (const auto until = clock::now() + dial_deadline; !asked();)
        REQUIRE(clock::now() < until);
    net.cable->heal();
    send(*run.context, x);
    expect_success((*run.generation)[0], x, "direct");
    expect_content((*run.generation)[0], x);
    expect_success(context, x, "direct");
    run.expect_nothing_left();
}

TEST_CASE(
    "network faults: where only the port for infos can be reached a session ends by name, and "
    "once the others can be reached too it goes on") {
    for (const std::string wire : {"tcp", "ucx"}) {
        CAPTURE(wire);
        REQUIRE_MACHINES(two_machines, net)
        fault_run run{net, wire, small_model, false};
        net.cable->set(bad_cable::a_to_b, {.only_to_port = port_of_infos(*run.context)});
        const request x{30, {1}, {2}, 4, false};
        const auto began = clock::now();
        receive(*run.generation, run.context->endpoint, x);
        const auto outcome = (*run.generation)[0].outcome(x.rid);
        INFO(outcome.dump());
        CHECK(outcome.at("error").at("code") == "dial_failed");
        CHECK(clock::now() - began < dial_deadline + 2s);
        (*run.generation)[0].released(x.rid);
        net.cable->heal();
        CHECK(run.meet(31) < dial_deadline);
        run.expect_nothing_left();
    }
}

TEST_CASE("network faults: in the middle of a transfer each ends it on both sides in time, with "
          "proof, and the next request needs no restart") {
    std::cout << "| wire | what happens | the context hears | the generation hears | its pages are "
                 "released after | next request, healed |\n|---|---|---|---|---|---|\n";
    for (const std::string wire : {"tcp", "ucx"}) {
        CAPTURE(wire);
        for (const auto& each : faults())
            if (is_wanted(each.name))
                suffer(wire, each);
    }
}

TEST_CASE("network faults: a first request and a second one over a far cable"
          * doctest::description("prints their round trips, asserts nothing about them")) {
    constexpr auto round_trip = 200ms;
    REQUIRE_MACHINES(two_machines, net)
    fault_run run{net, "tcp", tiny_model, false};
    run_on(net.decode, "eth", [&run] { learn_way_to(run.context->endpoint); });
    net.cable->set_both({.delay = round_trip / 2});
    for (const std::uint64_t rid : {1, 2}) {
        const request x{rid, {1}, {2}, 16, false};
        auto& context = (*run.context)[0];
        send(*run.context, x);
        REQUIRE(context.ask({{"do", "status"}, {"rid", x.rid}}).at("state") == "INIT"); // it waits
        const auto began = clock::now();
        receive(*run.generation, run.context->endpoint, x);
        expect_success((*run.generation)[0], x, "direct");
        const std::chrono::duration<double> took = clock::now() - began;
        std::cout << "| tcp | 100 ms each way, request " << rid << " | "
                  << took / std::chrono::duration<double>{round_trip} << " round trips |"
                  << std::endl;
        expect_content((*run.generation)[0], x);
        expect_success(context, x, "direct");
    }
}

TEST_CASE("network faults: a slow, far or lossy cable delays a transfer and ends nothing") {
    // UCX has one connection: frames wait behind up to 2 MB of puts, and the peer seems to be
    // silent for as long as a new connection takes for them, 1 s with 50 ms each way.
    const std::vector<std::tuple<std::string, std::string, cable_quality>> cables{
        {"tcp", "1 MB/s", {.bytes_per_second = 1'000'000}},
        {"ucx", "8 MB/s", {.bytes_per_second = 8'000'000}},
        {"tcp", "50 ms each way", {.delay = 50ms}},
        {"ucx", "50 ms each way", {.delay = 50ms}},
        {"tcp", "1 % lost, 5 % late", {.lost_per_mille = 10, .late_per_mille = 50}},
        {"ucx", "1 % lost, 5 % late", {.lost_per_mille = 10, .late_per_mille = 50}},
    };
    for (const auto& [wire, name, quality] : cables) {
        REQUIRE_MACHINES(two_machines, net)
        CAPTURE(wire);
        CAPTURE(name);
        fault_run run{net, wire, large_model, true, wire == "ucx" ? 5000ms : 1000ms};
        net.cable->set_both(quality);
        auto x = whole_blocks(10, 8, 32); // 4 MiB
        const auto began = clock::now();
        send(*run.context, x);
        receive(*run.generation, run.context->endpoint, x);
        expect_success((*run.generation)[0], x, "direct");
        expect_success((*run.context)[0], x, "direct");
        std::cout << "| " << wire << " | " << name << " | 4 MiB in "
                  << in_seconds(clock::now() - began) << " |" << std::endl;
        expect_content((*run.generation)[0], x);
        net.cable->heal();
        run.expect_nothing_left();
    }
}

} // namespace kvferry::testing
