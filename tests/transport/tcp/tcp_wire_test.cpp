// SPDX-License-Identifier: Apache-2.0
// The tcp wire keeps the fabric's promises, and leaves nothing behind.
#include "tests/support/open_resources.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_ends_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/fabric/nothing_left.hpp"
#include "tests/transport/tcp/tcp_kit.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/tcp/tcp_hello.hpp"

#include <cerrno>

namespace kvferry::testing {

using tcp_kit_of_three = tcp_kit_with<3>;

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::tcp_kit);
TYPE_TO_STRING(kvferry::testing::tcp_kit_of_three);
KVFERRY_FABRIC_CONFORMANCE(tcp_kit)
KVFERRY_FABRIC_STAGING_CONFORMANCE(tcp_kit)
KVFERRY_FABRIC_ENDS_CONFORMANCE(tcp_kit)

namespace kvferry::testing {
TEST_CASE_TEMPLATE_INVOKE(fabric_frames, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_put, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_many, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_cancel, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_force, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_close, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_death, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_attempts, tcp_kit_of_three);
TEST_CASE_TEMPLATE_INVOKE(fabric_report, tcp_kit_of_three);
} // namespace kvferry::testing

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("tcp wire: a construction step that fails is named and leaves nothing behind") {
    fabric_loops kit;
    const auto before = open_resources();
    for (const char* step : {"epoll_create1", "socket", "bind", "listen", "epoll_ctl"}) {
        CAPTURE(step);
        failing_call failure{step, EMFILE};
        auto made = spawn_tcp(kit.system(), kit.loop(0));
        REQUIRE_FALSE(made);
        CHECK_MESSAGE(text_of(made.error()).find(step) != std::string::npos,
                      describe(made.error()));
        CHECK(open_resources() == before);
    }
    auto nowhere = spawn_tcp(kit.system(), kit.loop(0), {}, {.listen = "192.0.2.1"});
    REQUIRE_FALSE(nowhere);
    CHECK(text_of(nowhere.error()).find("192.0.2.1") != std::string::npos);
}

TEST_CASE("tcp wire: a link that is closed in order gives back all descriptors, on both sides") {
    fabric_memory target(4096);
    fabric_pair<tcp_kit> pair;
    const auto region = pair.share(target);
    const auto round = [&] {
        auto over = pair.open({region});
        pair.check_alive(over, target);
        REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, false}));
    };
    round(); // the target makes a link of its own, for its answers, and keeps it
    const auto before = open_resources(); // of that round the target may have closed nothing yet
    for (int i = 0; i < 20; ++i)
        round();
    CHECK(is_down_to(before, pair));
}

TEST_CASE("tcp wire: a frame does not wait behind the bytes of puts that the peer does not take") {
    const scattered_put shape{64, 64, 16384}; // 64 MiB
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes());
    fabric_pair<tcp_kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    auto id = pair.put(over, shape.job(source.address(), target.address()));
    pair.probe.settle(pair.writer);
    pair.send(over, make_frame(pair.writer_id, 3));
    CHECK(pair.arrivals.next<frame_arrived>().frame == make_frame(pair.writer_id, 3));
    CHECK(pair.probe.waiting<transfer_done>() == 0); // the put is far from over
    CHECK(pair.ended().id == id);
}

TEST_CASE("tcp wire: of a peer's hosts the one that is right is found, whatever the others are") {
    fabric_pair<tcp_kit> pair;
    fabric_probe probe{pair.kit.system()};
    // Somebody else listens at the same port of another address: a rank of ours, but not this one.
    auto address = parse_address(pair.address_of(pair.target));
    REQUIRE(address);
    fabric_loops others;
    const auto right = address->hosts.front();
    address->hosts = {"127.0.0.2", "127.0.0.3", right}; // nobody listens at the first two
    const auto sealed = pack_address(*address);
    auto opened = pair.probe.ask<endpoint_opened>(
        pair.writer, open_endpoint{pair.target_id, sealed, {}, pair.probe.sink()});
    REQUIRE(opened);
    pair.send(opened->endpoint, make_frame(pair.writer_id, 7));
    CHECK(pair.arrivals.next<frame_arrived>().frame == make_frame(pair.writer_id, 7));
    pair.check_nothing_more();
}

TEST_CASE(
    "tcp wire: where nobody listens a dial has failed for good; where one host says no it has "
    "not") {
    fabric_pair<tcp_kit> pair;
    auto address = parse_address(pair.address_of(pair.target));
    REQUIRE(address);
    const auto right = address->hosts.front();
    address->secret[3] ^= 1;
    const auto failure = [&](std::vector<std::string> hosts) {
        address->hosts = std::move(hosts);
        auto opened = pair.probe.ask<endpoint_opened>(
            pair.writer,
            open_endpoint{pair.target_id, pack_address(*address), {}, pair.probe.sink()});
        REQUIRE(opened);
        return code_of(pair.probe.next<endpoint_failed>().reason);
    };
    CHECK(failure({"127.0.0.2", "127.0.0.3"}) == errc::dial_failed);
    CHECK(failure({"127.0.0.2", right}) == errc::link_lost);
}

TEST_CASE("tcp wire: a rank that is reached by an old address, or by a wrong secret, refuses by "
          "name, and the dialler hears why") {
    fabric_pair<tcp_kit> pair;
    auto address = parse_address(pair.address_of(pair.target));
    REQUIRE(address);
    auto wrong = *address;
    wrong.secret[3] ^= 1;
    const std::vector<std::pair<incarnation, byte_buffer>> dials{
        {incarnation{203}, pack_address(*address)}, {pair.target_id, pack_address(wrong)}};
    for (const auto& [target, to] : dials) {
        auto opened = pair.probe.ask<endpoint_opened>(
            pair.writer, open_endpoint{target, to, {}, pair.probe.sink()});
        REQUIRE(opened);
        pair.send(opened->endpoint, make_frame(pair.writer_id, 5));
        const auto failed = pair.probe.next<endpoint_failed>();
        CHECK(code_of(failed.reason) == errc::link_lost);
        CHECK_MESSAGE(
            text_of(failed.reason).find(target == pair.target_id ? "secret" : "incarnation 203")
                != std::string::npos,
            describe(failed.reason));
    }
    CHECK(pair.arrivals.waiting<frame_arrived>() == 0);
}
