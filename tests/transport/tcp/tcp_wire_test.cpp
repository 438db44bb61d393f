// SPDX-License-Identifier: Apache-2.0
// The tcp wire keeps the fabric's promises, and leaves nothing behind.
#include "tests/support/open_resources.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_ends_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/tcp/raw_peer.hpp"
#include "tests/transport/tcp/resources_at_rest.hpp"
#include "tests/transport/tcp/spawn_tcp.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/tcp/tcp_hello.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>

namespace kvferry::testing {

template <std::size_t bulk_sockets>
struct tcp_kit_with : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made =
            spawn_tcp(system(), loop(number), {.self = self, .default_sink = sink, .bounds = {}},
                      {.bulk_sockets = bulk_sockets});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

using tcp_kit = tcp_kit_with<1>;
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
    const auto before = resources_at_rest(pair);
    for (int i = 0; i < 3; ++i)
        round();
    CHECK(resources_at_rest(pair) == before);
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

namespace {

/// Somebody listens, and never says anything: a dial there lasts until its deadline.
class mute_port {
public:
    mute_port() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(::listen(fd_.get(), 8) == 0);
        socklen_t size = sizeof at;
        REQUIRE(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
        port_ = ntohs(at.sin_port);
    }
    std::uint16_t port() const { return port_; }

private:
    unique_fd fd_;
    std::uint16_t port_ = 0;
};

/// The writer has come in over a link of its own. Whatever the target dials in return is welcomed
/// by nobody.
struct one_way_in {
    one_way_in() : over(pair.open()) { expect_frame(5); }

    /// The writer says so much, and the target hears it.
    void expect_frame(std::size_t bytes) {
        pair.send(over, make_frame(pair.writer_id, bytes));
        CHECK(pair.arrivals.next<frame_arrived>().frame == make_frame(pair.writer_id, bytes));
    }
    endpoint_id dial_back(std::vector<memory_region> regions = {}) {
        auto address = parse_address(pair.address_of(pair.writer));
        REQUIRE(address);
        address->port = nobody.port();
        address->hosts = {"127.0.0.1"};
        auto back = pair.arrivals.ask<endpoint_opened>(
            pair.target, open_endpoint{pair.writer_id, pack_address(*address), std::move(regions),
                                       pair.arrivals.sink()});
        REQUIRE(back);
        return back->endpoint;
    }
    /// The target says so much over that link, and the writer hears it.
    void expect_answer(endpoint_id back, std::size_t bytes) {
        pair.arrivals.tell(pair.target, send_frame{back, make_frame(pair.target_id, bytes)});
        CHECK(pair.probe.next<frame_arrived>().frame == make_frame(pair.target_id, bytes));
    }

    fabric_pair<tcp_kit> pair;
    mute_port nobody;
    endpoint_id over;
};

} // namespace

TEST_CASE(
    "tcp wire: before its own dial is welcomed a rank answers on the connection that its peer "
    "has made: frames and the bytes of a put") {
    one_way_in test;
    auto& pair = test.pair;
    const scattered_put shape{2, 2, 512};
    fabric_memory source(shape.source_bytes()), memory(shape.target_bytes());
    source.number(9);
    auto registered = pair.probe.ask<region_registered>(
        pair.writer, register_region{memory.data(), memory.size(), memory_kind::host_private});
    REQUIRE(registered);
    const auto back = test.dial_back(
        {{memory.address(), memory.size(), memory_kind::host_private, registered->access_key}});
    test.expect_answer(back, 7);
    pair.arrivals.tell(pair.target, start_put{{1},
                                              back,
                                              shape.job(source.address(), memory.address()),
                                              pair.arrivals.completions(),
                                              {},
                                              {}});
    const auto done = pair.arrivals.next<transfer_done>();
    CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
    pair.probe.settle(pair.writer);
    std::vector<std::byte> expected(memory.size());
    shape.expect(source, expected);
    CHECK(std::memcmp(memory.data(), expected.data(), expected.size()) == 0);

    // What it has said there may be lost with that connection, and with it the link.
    REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{test.over, true}));
    CHECK(code_of(pair.arrivals.next<endpoint_failed>().reason) == errc::link_lost);
}

TEST_CASE("tcp wire: a peer that closes its connection in order has read what came back there: the "
          "link goes on") {
    one_way_in test;
    auto& pair = test.pair;
    const auto back = test.dial_back();
    test.expect_answer(back, 7);
    REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{test.over, false}));
    test.over = pair.open();
    test.expect_frame(6); // behind the end of the former one
    test.expect_answer(back, 8);
    CHECK(pair.arrivals.waiting<endpoint_failed>() == 0);
}

TEST_CASE("tcp wire: a peer that does not say that it hears is answered on a connection of the "
          "rank's own alone") {
    fabric_pair<tcp_kit> pair;
    const auto address = parse_address(pair.address_of(pair.target));
    REQUIRE(address);
    raw_peer former{address->port};
    REQUIRE(former.send(
        pack_hello({pair.target_id, pair.writer_id, address->secret, tcp_lane::frames, false})));
    REQUIRE(former.is_welcome());
    auto back = pair.arrivals.ask<endpoint_opened>(
        pair.target,
        open_endpoint{pair.writer_id, pair.address_of(pair.writer), {}, pair.arrivals.sink()});
    REQUIRE(back);
    pair.arrivals.tell(pair.target, send_frame{back->endpoint, make_frame(pair.target_id, 3)});
    CHECK(pair.probe.next<frame_arrived>().frame == make_frame(pair.target_id, 3));
    REQUIRE_FALSE(pair.arrivals.ask(pair.target, close_endpoint{back->endpoint, false}));
    pair.arrivals.settle(pair.target);
    REQUIRE_FALSE(pair.probe.ask(pair.target, stop_io{}));
    CHECK(former.rest().empty()); // nothing followed its welcome
}
