// SPDX-License-Identifier: Apache-2.0
// Ranks that find each other by name in a real etcd, which also dies, comes back and forgets. It
// says "skipped: " where etcd is not installed.
#include "tests/processes/etcd.hpp"
#include "tests/support/contains.hpp"

#include <csignal>

namespace kvferry::testing {

namespace {

/// A session to that name ends with this reason and text.
void refuse(instance_processes& generation, const std::string& name, std::uint64_t rid,
            const std::string& text) {
    const request x{rid, {0}, {1}, 16, false};
    receive(generation, "etcd:" + name, x, {{"deadline_ms", 3000}});
    const auto outcome = generation[0].outcome(rid);
    INFO(outcome.dump());
    CHECK(outcome.at("state") == "ERROR");
    CHECK(contains(outcome.at("error").at("text").get<std::string>(), text));
    generation[0].released(rid);
}

} // namespace

TEST_CASE("discovery: an instance is found by its name; role, drain and end show in the list") {
    if (no_etcd())
        return;
    deployment all;
    instance_processes context{all.one("prefill-3", "context")};
    instance_processes generation{all.one("decode-0", "generation")};
    const auto found = all.await("prefill-3", {{"role", "context"}, {"draining", false}});
    CHECK(found.at("endpoint") == context.endpoint);
    CHECK(found.at("ranks") == 1);
    const auto other = all.await("decode-0", {{"role", "generation"}});
    CHECK(other.at("layout_digest") == found.at("layout_digest"));
    transfer(context, generation, "etcd:prefill-3", 1);
    refuse(generation, "prefill-4", 2, "lists no instance 'prefill-4'");

    CHECK(context[0].ask({{"do", "role"}, {"role", "generation"}}).at("event") == "role");
    all.await("prefill-3", {{"role", "generation"}});

    const request held{3, {0, 1}, {2, 3}, 32, false};
    context[0].ask({{"do", "open"}, {"rid", held.rid}});
    receive(generation, "etcd:prefill-3", held);
    while (context[0].ask({{"do", "status"}, {"rid", held.rid}}).at("peers").empty())
        ;
    context[0].terminate();
    all.await("prefill-3", {{"draining", true}});
    send(context, held);
    expect_success(generation[0], held, "");
    CHECK(context[0].wait_for_end() == 128 + SIGTERM);
    all.await("prefill-3", nullptr);
    CHECK(generation[0].stop() == 0);
    CHECK(all.listed().empty()); // at once: nobody waits for the end of a lease
}

TEST_CASE(
    "discovery: a rank that is killed is listed until its lease ends, its successor at once; ranks "
    "that are listed idle meanwhile") {
    if (no_etcd())
        return;
    deployment all;
    instance_processes context{all.one("prefill-3", "context")};
    instance_processes other{all.one("prefill-4", "context")};
    all.await("prefill-3", {{"endpoint", context.endpoint}});
    all.await("prefill-4", {{"endpoint", other.endpoint}});
    const auto began = std::chrono::steady_clock::now();
    const auto before = other[0].processor_time();
    context[0].kill();
    all.await("prefill-3", nullptr);
    const auto wall = std::chrono::nanoseconds{std::chrono::steady_clock::now() - began};
    CHECK(wall > 500ms); // renewals of several leases
    CHECK(other[0].processor_time() - before < static_cast<std::uint64_t>(wall.count()) / 20);
    context.restart(0);
    all.await("prefill-3", {{"endpoint", context.endpoint}});
    CHECK(context[0].stop() == 0);
}

TEST_CASE(
    "discovery: while etcd is dead running transfers and known names go on, and other names "
    "end with its endpoint; afterwards all is listed again, also when etcd has forgotten it") {
    if (no_etcd())
        return;
    deployment all;
    instance_processes context{all.one("prefill-3", "context")};
    instance_processes generation{all.one("decode-0", "generation")};
    transfer(context, generation, "etcd:prefill-3", 1);
    std::uint64_t rid = 1;
    for (const auto forgets : {false, true}) {
        CAPTURE(forgets);
        const request running{++rid, {4, 5}, {6, 7}, 32, false};
        context[0].ask({{"do", "open"}, {"rid", running.rid}});
        receive(generation, "etcd:prefill-3", running);
        while (context[0].ask({{"do", "status"}, {"rid", running.rid}}).at("peers").empty())
            ;
        all.directory.kill();
        send(context, running);
        expect_success(generation[0], running, "");
        expect_success(context[0], running, "");
        transfer(context, generation, "etcd:prefill-3", ++rid);
        const std::string name = forgets ? "prefill-8" : "prefill-9";
        refuse(generation, name, ++rid, "etcd at " + all.directory.url);

        // A rank can also start meanwhile.
        instance_processes late{all.one(name, "context")};
        if (forgets)
            all.directory.forget_everything();
        all.directory.start();
        for (const auto& each : {std::string{"prefill-3"}, std::string{"decode-0"}, name})
            all.await(each, json::object());
        transfer(late, generation, "etcd:" + name, ++rid);
        CHECK(late[0].stop() == 0);
        all.await(name, nullptr);
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("discovery: --watch shows the list again after a change") {
    if (no_etcd())
        return;
    deployment all;
    program shown{{rank_program(), "instances", "--watch", "--etcd", all.directory.url}};
    REQUIRE(shown.says("instance"));
    instance_processes context{all.one("prefill-3", "context")};
    REQUIRE(shown.says("prefill-3"));
    context[0].ask({{"do", "role"}, {"role", "generation"}});
    REQUIRE(shown.says("generation"));
}

} // namespace kvferry::testing
