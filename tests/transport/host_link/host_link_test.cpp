// SPDX-License-Identifier: Apache-2.0
// What every implementation of host_link_actor promises: one suite on sockets and on the twin.
#include "tests/support/open_resources.hpp"
#include "tests/transport/host_link/host_link_conformance.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

TYPE_TO_STRING(socket_world);
TYPE_TO_STRING(loopback_world);

TEST_CASE_TEMPLATE(
    "host_link: a dialled and expected link is up on both sides with the regions mapped", World,
    socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    b.expect(a.id);
    a.dial(b);
    auto at_a = a.owner->wait_for(1);
    auto at_b = b.owner->wait_for(1);
    REQUIRE(link_owner::print(at_a) == "up 2");
    REQUIRE(link_owner::print(at_b) == "up 1");
    for (auto* seen : {&at_a[0], &at_b[0]}) {
        CHECK(seen->process_watched);
        REQUIRE(seen->mapped.size() == 1);
        CHECK(seen->mapped[0].region == 3);
        CHECK(seen->mapped[0].bytes == 16384);
    }
    at_a[0].mapped[0].base[16383] = std::byte{11};
    CHECK(b.pool.base()[16383] == std::byte{11});
    at_b[0].mapped[0].base[1] = std::byte{12};
    CHECK(a.pool.base()[1] == std::byte{12});
    world.stop(a);
    world.stop(b);
}

TEST_CASE_TEMPLATE("host_link: a peer that comes before it is expected waits for that", World,
                   socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    a.dial(b);
    REQUIRE(a.told(1) == "up 2");
    b.expect(a.id);
    CHECK(b.told(1) == "up 1");
    world.stop(a);
    world.stop(b);
}

TEST_CASE_TEMPLATE("host_link: a peer that nobody expects is let go by the deadline", World,
                   socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2, limits{.dial_deadline = 30ms});
    a.dial(b, 30ms);
    CHECK(a.told(2) == "up 2, down 2 deadline_exceeded");
    world.stop(a);
    world.stop(b);
    CHECK(link_owner::print(b.owner->all()).empty());
}

TEST_CASE_TEMPLATE("host_link: an expected peer that never comes is given up by the deadline",
                   World, socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    a.expect(incarnation{9}, 20ms);
    CHECK(a.told(1) == "down 9 deadline_exceeded");
    world.stop(a);
}

TEST_CASE_TEMPLATE("host_link: a dial to nobody ends at once", World, socket_world,
                   loopback_world) {
    World world;
    auto a = world.rank(1);
    a.dial(incarnation{9}, "kvferry-test-nobody", link_token{});
    CHECK(a.told(1) == "down 9 dial_failed");
    world.stop(a);
}

TEST_CASE_TEMPLATE("host_link: a dial to a frozen peer ends by its deadline and delays no other",
                   World, socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    auto frozen = world.frozen(incarnation{9});
    a.dial(incarnation{9}, frozen, link_token{}, 100ms);
    a.dial(b);
    CHECK(a.told(2) == "up 2, down 9 deadline_exceeded");
    world.stop(a);
    world.stop(b);
}

TEST_CASE_TEMPLATE("host_link: a wrong link token is refused and the acceptor is not told", World,
                   socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    b.expect(a.id);
    a.dial(b.id, b.name, link_token{77});
    CHECK(a.told(1) == "down 2 foreign_peer");
    world.stop(a);
    world.stop(b);
    CHECK(link_owner::print(b.owner->all()) == "down 1 stopped");
}

TEST_CASE_TEMPLATE("host_link: a dial meant for an earlier process start is refused", World,
                   socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    a.dial(incarnation{222}, b.name, b.token);
    CHECK(a.told(1) == "down 222 stale_incarnation");
    world.stop(a);
    world.stop(b);
}

TEST_CASE_TEMPLATE("host_link: a rank has no link to itself", World, socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    a.dial(a);
    CHECK(a.told(1) == "down 1 invalid_argument");
    world.stop(a);
}

TEST_CASE_TEMPLATE("host_link: closing is told to both owners once, and the mapping lives on",
                   World, socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    b.expect(a.id);
    a.dial(b);
    auto up = a.owner->wait_for(1);
    REQUIRE(link_owner::print(up) == "up 2");
    REQUIRE(b.told(1) == "up 1");
    a.close(b.id);
    a.close(b.id);
    CHECK(b.told(2) == "up 1, down 1 link_lost");
    CHECK(a.told(2) == "up 2, down 2 cancelled");
    up[0].mapped[0].base[0] = std::byte{5};
    CHECK(b.pool.base()[0] == std::byte{5});
    world.stop(a);
    world.stop(b);
    CHECK(link_owner::print(a.owner->all()) == "up 2, down 2 cancelled");
    CHECK(link_owner::print(b.owner->all()) == "up 1, down 1 link_lost");
}

TEST_CASE("host_link: of a link that has ended nothing is kept when its owner is gone, too") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    const auto before = open_resources().descriptors;
    b.expect(a.id);
    a.dial(b);
    REQUIRE(a.told(1) == "up 2");
    REQUIRE(b.told(1) == "up 1");
    CHECK(open_resources().descriptors > before);
    a.close(b.id);
    REQUIRE(a.told(2) == "up 2, down 2 cancelled");
    REQUIRE(b.told(2) == "up 1, down 1 link_lost");
    (void)a.owner->all(); // ends it
    (void)b.owner->all();
    caf::scoped_actor self{world.system()};
    const auto until = clock::now() + patience;
    while (open_resources().descriptors != before && clock::now() < until)
        for (const auto* rank : {&a, &b}) // each answers when it has heard of the end, or later
            self->request(rank->links, patience, host_link_close{incarnation{99}})
                .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    CHECK(open_resources().descriptors == before);
    world.stop(a);
    world.stop(b);
}

TEST_CASE_TEMPLATE("host_link: a closed link can be made again", World, socket_world,
                   loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    b.expect(a.id);
    a.dial(b);
    REQUIRE(a.told(1) == "up 2");
    REQUIRE(b.told(1) == "up 1");
    a.close(b.id);
    REQUIRE(b.told(2) == "up 1, down 1 link_lost");
    b.expect(a.id);
    a.dial(b);
    CHECK(a.told(3) == "up 2, down 2 cancelled, up 2");
    CHECK(b.told(3) == "up 1, down 1 link_lost, up 1");
    world.stop(a);
    world.stop(b);
}

TEST_CASE_TEMPLATE(
    "host_link: a new owner takes a link over with its mappings and its watch; the former "
    "one is told so, can close nothing any more, and does not hear of the death",
    World, socket_world, loopback_world) {
    World world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    a.dial(b);
    b.expect(a.id);
    REQUIRE(a.told(1) == "up 2");
    REQUIRE(b.told(1) == "up 1");
    link_owner other{world.system()}, third{world.system()};
    tell_from_outside(a.links, host_link_dial{b.id, b.name, b.token, patience, other.handle()});
    const auto up = other.wait_for(1);
    REQUIRE(link_owner::print(up) == "up 2");
    CHECK(up[0].process_watched);
    REQUIRE(up[0].mapped.size() == 1);
    CHECK(up[0].mapped[0].bytes == b.pool.bytes());
    CHECK(a.told(2) == "up 2, down 2 duplicate");
    tell_from_outside(b.links, host_link_expect{a.id, patience, third.handle()});
    CHECK(link_owner::print(third.wait_for(1)) == "up 1");
    CHECK(b.told(2) == "up 1, down 1 duplicate");
    {
        caf::scoped_actor former{world.system()};
        former->send(a.links,
                     host_link_close{b.id, a.owner->handle()}); // it is not its own any more
        former->request(a.links, patience, share_region{9, a.pool.fd(), a.pool.bytes(), nullptr})
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    }
    world.stop(a);
    CHECK(link_owner::print(third.wait_for(2)) == "up 1, down 1 link_lost");
    CHECK(link_owner::print(other.wait_for(2)) == "up 2, down 2 stopped");
    world.stop(b);
    CHECK(link_owner::print(a.owner->all()) == "up 2, down 2 duplicate");
}

TEST_CASE_TEMPLATE("host_link: two ranks that dial each other get one link", World, socket_world,
                   loopback_world) {
    for (int round = 0; round < 20; ++round) {
        World world;
        auto a = world.rank(1);
        auto b = world.rank(2);
        a.dial(b);
        b.dial(a);
        CHECK(a.told(1) == "up 2");
        CHECK(b.told(1) == "up 1");
        // One connection serves both sides: when one closes it, the other side's link ends as well.
        b.close(a.id);
        CHECK(a.told(2) == "up 2, down 2 link_lost");
        world.stop(a);
        world.stop(b);
    }
}

TEST_CASE_TEMPLATE("host_link: one rank holds many links at a time", World, socket_world,
                   loopback_world) {
    World world;
    auto hub = world.rank(1);
    std::vector<linked_rank> others;
    for (std::uint64_t id = 2; id < 34; ++id) {
        others.push_back(world.rank(id));
        if (id % 2 == 0)
            hub.expect(incarnation{id});
        others.back().dial(hub);
        if (id % 2 != 0)
            hub.expect(incarnation{id});
    }
    for (auto& other : others)
        CHECK(other.told(1) == "up 1");
    CHECK(hub.owner->wait_for(others.size()).size() == others.size());
    world.stop(hub);
    for (auto& other : others)
        CHECK(other.told(2) == "up 1, down 1 link_lost");
    for (auto& other : others)
        world.stop(other);
}

TEST_CASE_TEMPLATE("host_link: stop ends what is pending, says so, and leaves nothing open", World,
                   socket_world, loopback_world) {
    World world;
    auto warm = world.rank(5); // opens what the first rank opens for good
    world.stop(warm);
    auto a = world.rank(1);
    auto b = world.rank(2);
    const auto frozen = world.frozen(incarnation{9});
    world.stop(a);
    world.stop(b);
    const auto before = open_resources();
    a.links = *world.spawn(a, {});
    b.links = *world.spawn(b, {});
    a.dial(b);
    REQUIRE(a.told(1) == "up 2");
    b.expect(a.id);
    REQUIRE(b.told(1) == "up 1");
    a.expect(incarnation{7});
    a.dial(incarnation{9}, frozen, link_token{});
    world.stop(a);
    CHECK(b.told(2) == "up 1, down 1 link_lost");
    world.stop(b);
    auto told = a.owner->all();
    REQUIRE(told.size() == 4);
    for (std::size_t index = 1; index < 4; ++index)
        CHECK(told[index].reason == errc::stopped);
    a.owner.reset(); // the events hold mappings
    b.owner.reset();
    told.clear();
    CHECK(open_resources() == before);
}

TEST_CASE_TEMPLATE("host_link: a name that is taken is refused", World, socket_world,
                   loopback_world) {
    World world;
    auto a = world.rank(1);
    CHECK(code_of(world.spawn(a, {}).error()) == errc::system_call_failed);
    world.stop(a);
    auto again = world.spawn(a, {});
    REQUIRE(again);
    a.links = *again;
    world.stop(a);
}

TEST_CASE("loopback host network: a killed rank is reported as down, then gone, once each") {
    loopback_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    b.expect(a.id);
    a.dial(b);
    REQUIRE(a.told(1) == "up 2");
    REQUIRE(b.told(1) == "up 1");
    world.network->kill(b.id);
    world.network->kill(b.id);
    CHECK(a.told(3) == "up 2, down 2 link_lost, gone 2");
    world.stop(a);
    world.stop(b);
    CHECK(link_owner::print(a.owner->all()) == "up 2, down 2 link_lost, gone 2");
    CHECK(link_owner::print(b.owner->all()) == "up 1");
}
