// SPDX-License-Identifier: Apache-2.0
// What a rank says on the connection that its peer has made, before its own dial is welcomed: when
// it arrives, when it may be lost, and when it cannot be.
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/tcp/raw_peer.hpp"
#include "tests/transport/tcp/tcp_kit.hpp"

#include <cerrno>
#include <sys/socket.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

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
        const auto address = parse_address(pair.address_of(pair.writer));
        REQUIRE(address);
        auto back = pair.arrivals.ask<endpoint_opened>(
            pair.target, open_endpoint{pair.writer_id, nobody.instead_of(*address),
                                       std::move(regions), pair.arrivals.sink()});
        REQUIRE(back);
        return back->endpoint;
    }
    /// The target says so much over that link, and the writer hears it.
    void expect_answer(endpoint_id back, std::size_t bytes) {
        pair.arrivals.tell(pair.target, send_frame{back, make_frame(pair.target_id, bytes)});
        CHECK(pair.probe.next<frame_arrived>().frame == make_frame(pair.target_id, bytes));
    }

    fabric_pair<tcp_kit> pair;
    raw_door nobody;
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

namespace {

/// The rank that is tested is the target; its peer is this test.
struct peer_by_hand {
    peer_by_hand() {
        REQUIRE(in.send(
            pack_hello({pair.target_id, peer, address.secret, tcp_lane::frames, /*hears*/ true})));
        REQUIRE(in.is_welcome());
    }
    /// The rank dials the peer, which lets it in when the test wants.
    endpoint_id dial() {
        auto opened = pair.arrivals.ask<endpoint_opened>(
            pair.target, open_endpoint{peer, door.instead_of(address), {}, pair.arrivals.sink()});
        REQUIRE(opened);
        return opened->endpoint;
    }
    void say(endpoint_id over, std::size_t bytes) {
        pair.arrivals.tell(pair.target, send_frame{over, make_frame(pair.target_id, bytes)});
    }
    /// The rank has handled everything that has come, and sleeps.
    void settle() {
        pair.arrivals.settle(pair.target);
        pair.arrivals.settle(pair.target);
    }
    /// A frame of seven bytes comes back on the peer's connection, and the peer has asked whether
    /// that is all, as it does before it closes.
    void hear_all_of(endpoint_id back) {
        say(back, 7);
        CHECK(in.next_record().payload == frame(7));
        REQUIRE(in.send_record(tcp_record::flush, byte_buffer(8)));
        REQUIRE(in.next_record().is(tcp_record::flushed));
    }
    byte_buffer frame(std::size_t bytes) const { return make_frame(pair.target_id, bytes); }

    static constexpr incarnation peer{77};
    fabric_pair<tcp_kit> pair;
    tcp_address address = *parse_address(pair.address_of(pair.target));
    raw_door door;
    raw_peer in{address.port};
};

} // namespace

TEST_CASE(
    "tcp wire: a peer that closes its connection in order has read what came back there, also "
    "when the rank has something to ask it that has not left yet") {
    peer_by_hand test;
    const auto back = test.dial();
    auto out = test.door.accept();
    test.hear_all_of(back);
    test.settle();
    {
        auto held = test.pair.kit.hold(1); // so it finds both at once, in this order
        REQUIRE(out.send_record(tcp_record::welcome));
        test.in.close();
    }
    test.say(back, 8);
    CHECK(out.next_record().payload == test.frame(8));
    CHECK(test.pair.arrivals.waiting<endpoint_failed>() == 0);
}

TEST_CASE("tcp wire: nothing is said on a connection whose peer has asked whether all has arrived, "
          "as it does before it closes: it waits for the rank's own") {
    peer_by_hand test;
    const auto back = test.dial();
    auto out = test.door.accept();
    test.hear_all_of(back);
    test.say(back, 8);
    test.settle();
    test.in.close(); // unread, it would be lost
    REQUIRE(out.send_record(tcp_record::welcome));
    CHECK(out.next_record().payload == test.frame(8));
    CHECK(test.pair.arrivals.waiting<endpoint_failed>() == 0);
}

TEST_CASE("tcp wire: the answer to a question of a link that has ended meanwhile does not end its "
          "peer's connection") {
    peer_by_hand test;
    auto& pair = test.pair;
    const auto back = test.dial();
    auto out = test.door.accept();
    test.say(back, 7);
    CHECK(test.in.next_record().payload == test.frame(7));
    REQUIRE(out.send_record(tcp_record::welcome));
    const auto question = test.in.next_record();
    REQUIRE(question.is(tcp_record::flush));
    REQUIRE_FALSE(pair.arrivals.ask(pair.target, close_endpoint{back, true}));
    REQUIRE(test.in.send_record(tcp_record::flushed, question.payload));
    const auto frame = make_frame(test.peer, 9);
    REQUIRE(test.in.send_record(fabric_message::frame, frame));
    CHECK(pair.arrivals.next<frame_arrived>().frame == frame);
}

TEST_CASE(
    "tcp wire: a link that is closed in order says so to its peer, whose words may be on their "
    "way: no reset takes their place") {
    fabric_pair<tcp_kit> pair;
    raw_door door;
    auto opened = pair.probe.ask<endpoint_opened>(
        pair.writer, open_endpoint{pair.target_id,
                                   door.instead_of(*parse_address(pair.address_of(pair.target))),
                                   {},
                                   pair.probe.sink()});
    REQUIRE(opened);
    auto peer = door.accept();
    REQUIRE(peer.send_record(tcp_record::welcome));
    caf::scoped_actor self{pair.kit.system()};
    auto closed =
        self->request(pair.writer, fabric_patience, close_endpoint{opened->endpoint, false});
    const auto question = peer.next_record();
    REQUIRE(question.is(tcp_record::flush));
    {
        auto held = pair.kit.hold(0); // more than it reads in one turn comes behind the answer
        REQUIRE(peer.send_record(tcp_record::flushed, question.payload));
        const byte_buffer much(std::size_t{1} << 20);
        const record_head frame{.what = static_cast<std::uint8_t>(fabric_message::frame),
                                .payload_bytes = much.size()};
        REQUIRE(peer.send({reinterpret_cast<const caf::byte*>(&frame), sizeof frame}));
        REQUIRE(::send(peer.fd(), much.data(), much.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0);
    }
    closed.receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    char more;
    errno = 0;
    CHECK(::recv(peer.fd(), &more, 1, 0) == 0);
    CHECK(errno == 0);
}
