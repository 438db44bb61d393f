// SPDX-License-Identifier: Apache-2.0
// A link that is up, and how it ends: order, foreign frames, goodbyes, deaths and proofs.
#include "tests/actors/rank/peer_link_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

request_data request(std::uint64_t id) {
    request_data result;
    result.header.request = {id};
    return result;
}

std::vector<std::uint64_t> rids(const std::vector<request_data>& requests) {
    std::vector<std::uint64_t> result;
    for (const auto& x : requests)
        result.push_back(x.header.request.value);
    return result;
}

} // namespace

TEST_CASE("peer_link: fills version, incarnations and a running sequence in every message") {
    link_fixture test;
    test.connect();
    test.tell(send_message{request(7)});
    test.tell(send_message{cancel_session{}});
    auto sent = test.sent();
    REQUIRE(sent.size() == 4); // the first two make the link
    for (std::uint64_t index = 0; index < sent.size(); ++index) {
        CHECK(header_of(sent[index]).version == protocol_version);
        CHECK(header_of(sent[index]).sender == test.self.incarnation);
        CHECK(header_of(sent[index]).receiver == test.peer.incarnation);
        CHECK(header_of(sent[index]).sequence == (link_fixture::own_dial.value << 32) + index);
    }
    CHECK(header_of(sent[2]).request == rid{7});
}

TEST_CASE("peer_link: speaks the lower version of both ranks, from its first word on") {
    for (const auto accepting : {false, true}) {
        CAPTURE(accepting);
        for (const auto spoken : {oldest_protocol_version, protocol_version,
                                  static_cast<std::uint16_t>(protocol_version + 3)}) {
            CAPTURE(spoken);
            link_fixture test;
            test.peer.protocol = spoken;
            test.peer.capabilities = ~std::uint64_t{0};
            test.self.capabilities = capability::optional_messages;
            accepting ? test.accept() : test.connect();
            test.tell(send_message{request(7)});
            REQUIRE(test.sent().size() >= 2);
            for (const auto& message : test.sent())
                CHECK(header_of(message).version == std::min(spoken, protocol_version));
            REQUIRE(test.ready().size() == 1);
            CHECK(test.ready()[0].peer->terms
                  == link_terms{std::min(spoken, protocol_version), capability::optional_messages});
        }
    }
}

TEST_CASE("peer_link: a peer without a common version is refused by name, in the oldest that is "
          "understood, and never dialled") {
    link_fixture test;
    test.peer.protocol = oldest_protocol_version - 1;
    SUBCASE("accepted") {
        test.accept();
        const auto refusals = test.sent<refused>();
        REQUIRE(refusals.size() == 1);
        CHECK(refusals[0].header.version == oldest_protocol_version);
        CHECK(refusals[0].reason.code == errc::protocol_mismatch);
        CHECK(refusals[0].reason.text.find("gen/0 speaks versions up to 5") == 0);
    }
    SUBCASE("dialled") {
        test.dial();
        CHECK(test.fabric.received<open_endpoint>().empty());
        CHECK(test.loss().find("protocol_mismatch: link to gen/0: gen/0 speaks versions up to 5")
              == 0);
    }
}

TEST_CASE("peer_link: the accepting side offers its regions once, ahead of its first request for "
          "bytes; the dialler's are known already") {
    link_fixture test;
    SUBCASE("accepted") {
        test.accept();
        auto aux_only = request(1);
        aux_only.kv = false;
        test.tell(send_message{aux_only});
        CHECK(test.sent<offer_regions>().empty());
        test.tell(send_message{request(2)});
        test.tell(send_message{request(3)});
        auto sent = test.sent(); // after rank_registered
        REQUIRE(sent.size() == 5);
        const auto* offer = std::get_if<offer_regions>(&sent[2]);
        REQUIRE(offer);
        REQUIRE(offer->regions.size() == 1);
        CHECK(offer->regions[0].base_address == 0x9000);
        CHECK(rids(test.sent<request_data>()) == std::vector<std::uint64_t>{1, 2, 3});
    }
    SUBCASE("dialled") {
        test.connect();
        test.tell(send_message{request(1)});
        CHECK(test.sent<offer_regions>().empty());
    }
    SUBCASE("dialled, and asked before the link was ready") {
        test.dial();
        test.tell(send_message{request(1)});
        test.arrives(rank_registered{});
        CHECK(test.sent<offer_regions>().empty());
        CHECK(test.sent<request_data>().size() == 1);
    }
}

TEST_CASE(
    "peer_link: regions that the accepting side offers are known before its request is handed "
    "on, and cannot be replaced") {
    link_fixture test{reach::same_host};
    stub<device_actor> device{test.vs};
    test.devices = {{0, device.handle()}};
    device.answer<map_peer_regions>([](const map_peer_regions&) {
        return peer_regions_mapped{{{0, nullptr, 4096, {}, 0}}, {}};
    });
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    REQUIRE(test.ready().size() == 1);
    CHECK(test.ready()[0].peer->regions.empty());
    test.arrives(offer_regions{{}, test.peer_regions});
    test.arrives(request(7));
    REQUIRE(test.ready().size() == 2);
    const auto& view = *test.ready()[1].peer;
    CHECK(view.regions == test.peer_regions);
    CHECK(view.mapped.size() == 2); // by the host and by the device
    CHECK(view.endpoint == endpoint_id{5});
    REQUIRE(test.fabric.received<peer_regions_offered>().size() == 1);
    CHECK(test.fabric.received<peer_regions_offered>()[0].regions == test.peer_regions);
    CHECK(test.sender.received<peer_ready>().size() == 2);
    CHECK(rids(test.sender.received<request_data>()) == std::vector<std::uint64_t>{7});
    test.arrives(offer_regions{{}, {{0x1, 1 << 20, memory_kind::host_shared, {}}}});
    CHECK(test.ready().size() == 2);
    CHECK(test.losses() == 0);
}

TEST_CASE("peer_link: what is said before the link is ready waits and goes out in order (H12)") {
    link_fixture test;
    test.dial();
    for (std::uint64_t id : {1, 2, 3})
        test.tell(send_message{request(id)});
    CHECK(test.sent<request_data>().empty());
    test.arrives(rank_registered{});
    CHECK(rids(test.sent<request_data>()) == std::vector<std::uint64_t>{1, 2, 3});
}

TEST_CASE("peer_link: what waits is bounded; a request too many ends as if the peer had refused it "
          "(I6)") {
    limits bounds;
    bounds.pending_per_link_max = 1;
    link_fixture test{reach::other_machine, bounds};
    test.dial();
    test.tell(send_message{request(1)});
    test.tell(send_message{request(2)});
    auto refusals = test.receiver.received<refused>();
    REQUIRE(refusals.size() == 1);
    CHECK(refusals[0].header.request == rid{2});
    CHECK(refusals[0].header.sender == test.peer.incarnation);
    CHECK(contains(refusals[0].reason.text, "pending_per_link_max = 1"));
    test.arrives(rank_registered{});
    CHECK(rids(test.sent<request_data>()) == std::vector<std::uint64_t>{1});
}

TEST_CASE("peer_link: a request longer than the peer accepts ends as if the peer had refused it") {
    link_fixture test;
    test.connect();
    auto large = request(1);
    large.target.groups = {{0, std::vector<std::int32_t>(1 << 20)}};
    test.tell(send_message{large});
    test.tell(send_message{request(2)});
    REQUIRE(test.receiver.received<refused>().size() == 1);
    CHECK(test.receiver.received<refused>()[0].reason.code == errc::limit_exceeded);
    CHECK(rids(test.sent<request_data>()) == std::vector<std::uint64_t>{2});
    CHECK(test.losses() == 0);
}

TEST_CASE(
    "peer_link: a request longer than the peer accepts leaves no hole: the peer hears all others") {
    link_pair pair;
    auto large = request(1);
    large.target.groups = {{0, std::vector<std::int32_t>(1 << 20)}};
    for (std::uint64_t id : {2, 3}) {
        pair.near.tell(send_message{large});
        pair.near.tell(send_message{request(id)});
        pair.carry();
    }
    CHECK(rids(pair.far.sender.received<request_data>()) == std::vector<std::uint64_t>{2, 3});
    CHECK(pair.near.receiver.received<refused>().size() == 2);
    pair.far.tell(send_message{request(4)});
    pair.carry();
    CHECK(rids(pair.near.sender.received<request_data>()) == std::vector<std::uint64_t>{4});
    CHECK(pair.near.losses() + pair.far.losses() == 0);
}

TEST_CASE("peer_link: whatever is longer than the peer accepts reaches the peer's session in fewer "
          "words, and the link goes on") {
    constexpr std::size_t accepted = 1200; // enough for an introduction, not for these
    link_pair pair{accepted};
    const std::string words(4096, 'x');
    kv_agent_result report;
    report.header.request = {1};
    report.bytes = 77;
    report.route = words;
    aux_agent_result aux;
    aux.header.request = {2};
    aux.record.opaque.resize(words.size());
    pair.near.tell(send_message{report});
    pair.near.tell(send_message{aux});
    pair.near.tell(send_message{cancel_session{{}, side::context, {errc::cancelled, words}}});
    pair.near.tell(send_message{gone{{}, side::context, {errc::gone, words}}});
    refused refusal{{}, side::generation, {errc::limit_exceeded, words}};
    refusal.header.attempt = {9};
    pair.near.tell(send_message{refusal});
    pair.near.tell(send_message{request(3)});
    pair.carry();
    const auto reports = pair.far.receiver.received<kv_agent_result>();
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].header.request == rid{1});
    CHECK(reports[0].result == agent_result::success);
    CHECK(reports[0].bytes == 77);
    const auto records = pair.far.receiver.received<aux_agent_result>();
    REQUIRE(records.size() == 1);
    CHECK(records[0].header.request == rid{2});
    CHECK(records[0].result == agent_result::failed);
    CHECK(records[0].error.code == errc::limit_exceeded);
    CHECK(pair.far.sender.received<cancel_session>().at(0).reason.code == errc::cancelled);
    CHECK(pair.far.sender.received<gone>().at(0).reason.code == errc::gone);
    CHECK(pair.far.receiver.received<refused>().at(0).reason.code == errc::limit_exceeded);
    CHECK(rids(pair.far.sender.received<request_data>()) == std::vector<std::uint64_t>{3});
    CHECK(pair.near.losses() + pair.far.losses() == 0);
}

TEST_CASE("peer_link: a peer that accepts not even the shortest message loses the link, once") {
    link_fixture test;
    test.peer.accepts.message_bytes_max = 8;
    test.accept();
    CHECK(test.losses() == 1);
    CHECK(test.sent().empty());
    CHECK(test.ended());
}

TEST_CASE("peer_link: messages reach the side that they are for") {
    link_fixture test;
    test.connect();
    test.arrives(request(1));
    test.arrives(kv_agent_result{});
    test.arrives(aux_agent_result{});
    for (auto to : {side::context, side::generation}) {
        test.arrives(cancel_session{{}, to, {}});
        test.arrives(gone{{}, to, {}});
    }
    refused about_session;
    about_session.header.attempt = {5};
    test.arrives(about_session);
    CHECK(test.sender.received<request_data>().size() == 1);
    CHECK(test.sender.received<cancel_session>().size() == 1);
    CHECK(test.sender.received<gone>().size() == 1);
    CHECK(test.receiver.received<kv_agent_result>().size() == 1);
    CHECK(test.receiver.received<aux_agent_result>().size() == 1);
    CHECK(test.receiver.received<cancel_session>().size() == 1);
    CHECK(test.receiver.received<gone>().size() == 1);
    CHECK(test.receiver.received<refused>().size() == 1);
}

TEST_CASE(
    "peer_link: hands messages on in the peer's order, whatever the fabric does, each once (I7)") {
    link_fixture test;
    test.connect(); // the peer's message 0
    test.tell(frame_arrived{test.frame(request(3), 3)});
    test.tell(frame_arrived{test.frame(request(2), 2)});
    CHECK(test.sender.received<request_data>().empty());
    test.tell(frame_arrived{test.frame(request(1), 1)});
    test.tell(frame_arrived{test.frame(request(1), 1)});
    CHECK(rids(test.sender.received<request_data>()) == std::vector<std::uint64_t>{1, 2, 3});
}

TEST_CASE(
    "peer_link: a report that came with its bytes waits for no other message; it, and nothing "
    "else, may come outside the order, and only over a link that is up") {
    link_fixture test;
    const auto beside = [&test](wire_message message) {
        test.tell(frame_arrived{test.frame(std::move(message), beside_order)});
    };
    test.dial();
    beside(kv_agent_result{});
    CHECK(test.receiver.count() == 0);
    test.arrives(rank_registered{});
    test.tell(frame_arrived{test.frame(request(2), 2)}); // message 1 is missing
    beside(kv_agent_result{});
    CHECK(test.receiver.received<kv_agent_result>().size() == 1);
    beside(gone{});
    beside(request(5));
    CHECK(test.receiver.received<gone>().empty());
    CHECK(test.sender.received<request_data>().empty());
    test.arrives(request(1)); // the order did not lose count
    CHECK(rids(test.sender.received<request_data>()) == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE("peer_link: what runs ahead of a missing message is bounded") {
    limits bounds;
    bounds.pending_per_link_max = 2;
    link_fixture test{reach::other_machine, bounds};
    test.connect();
    for (std::uint64_t sequence : {2, 3, 4})
        test.tell(frame_arrived{test.frame(request(sequence), sequence)});
    CHECK(contains(test.loss(), "message 1 is missing and 2 others wait for it"));
}

TEST_CASE("peer_link: nothing but the handshake is heard before the handshake is done") {
    link_fixture test;
    test.dial();
    test.arrives(request(1));
    test.arrives(kv_agent_result{});
    test.arrives(gone{});
    test.arrives(cancel_session{});
    CHECK(test.sender.count() == 0);
    CHECK(test.receiver.count() == 0);
}

TEST_CASE("peer_link: frames from or for a former incarnation change nothing (H35, I8)") {
    link_fixture test;
    test.connect();
    auto from_former = request(1);
    from_former.header.sender = {1000};
    auto for_former = request(2);
    for_former.header.receiver = {1000};
    test.tell(frame_arrived{test.frame(from_former, 1)});
    test.tell(frame_arrived{test.frame(for_former, 1)});
    CHECK(test.sender.received<request_data>().empty());
    test.arrives(request(3)); // the sequence did not lose count
    CHECK(rids(test.sender.received<request_data>()) == std::vector<std::uint64_t>{3});
}

TEST_CASE("peer_link: a malformed frame ends the link with a named error (H7, H10)") {
    link_fixture test;
    test.connect();
    auto frame = test.frame(request(1), 1);
    frame.resize(frame.size() / 2);
    test.tell(frame_arrived{frame});
    CHECK(contains(test.loss(), "malformed_message: link to gen/0"));
    test.arrives(request(2));
    CHECK(test.sender.received<request_data>().empty());
}

TEST_CASE("peer_link: answers a health question with its nonce, and no answer with an answer") {
    link_fixture test;
    test.connect();
    test.arrives(link_health{{}, 99, false});
    test.arrives(link_health{{}, 99, true});
    auto answers = test.pulses();
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].nonce == 99);
    CHECK(answers[0].answer);
}

TEST_CASE(
    "peer_link: a peer that somebody waits for and that falls silent is lost in time, and told") {
    link_fixture test;
    test.connect();
    const auto waits = test.ready()[0].peer->awaited.lock();
    REQUIRE(waits);
    test.tell(send_message{request(1)});
    test.vs.advance(test.bounds.link_health_interval);
    REQUIRE(test.pulses().size() == 1);
    CHECK_FALSE(test.pulses()[0].answer);
    test.vs.advance(test.bounds.link_patience - 1ms);
    CHECK(test.losses() == 0);
    test.vs.advance(1ms);
    CHECK(contains(test.loss(), "link_lost: link to gen/0: gen/0 has been silent for 6.00 s"));
    CHECK(test.proofs() == 0); // silence proves nothing
    REQUIRE(test.sent<refused>().size() == 1);
    CHECK(test.sent<refused>()[0].reason.code == errc::link_lost);
    CHECK(test.closes() == std::vector<bool>{false});
}

TEST_CASE("peer_link: a peer that answers is kept, however long it has nothing else to say") {
    link_pair pair;
    const auto waits = pair.near.ready()[0].peer->awaited.lock();
    pair.near.tell(send_message{request(1)});
    pair.carry();
    for (int second = 0; second < 100; ++second) {
        pair.near.vs.advance(1s);
        pair.carry();
    }
    CHECK(pair.near.losses() + pair.far.losses() == 0);
    CHECK(pair.near.pulses().size() >= 90);
    CHECK(pair.far.pulses().size() == pair.near.pulses().size());
}

TEST_CASE("peer_link: a link that misses one message is not kept by all that come after it") {
    link_fixture test;
    test.connect();
    const auto waits = test.ready()[0].peer->awaited.lock();
    test.tell(send_message{request(1)});
    for (std::uint64_t number = 2; number < 20; ++number) {
        test.tell(frame_arrived{test.frame(link_health{{}, number, true}, number)});
        test.vs.advance(500ms);
    }
    CHECK(contains(test.loss(), "has been silent"));
}

TEST_CASE("peer_link: an idle link asks once a minute, and one that nobody answers ends") {
    link_pair pair;
    pair.near.vs.advance(10min);
    CHECK(pair.near.pulses().size() == 1); // nobody carries it
    CHECK(pair.near.losses() == 1);
    link_pair idle;
    for (int second = 0; second < 600; ++second) {
        idle.near.vs.advance(1s);
        idle.carry();
    }
    CHECK(idle.near.pulses().size() <= 10);
    CHECK(idle.near.pulses().size() >= 9);
    CHECK(idle.near.losses() == 0);
}

TEST_CASE("peer_link: a peer that says goodbye has left in order: that is proof") {
    link_fixture test;
    test.connect();
    test.arrives(termination{{}, {errc::stopped, "gen/0 has stopped"}});
    CHECK(contains(test.loss(), "stopped: link to gen/0: gen/0 has stopped"));
    CHECK(test.proofs() == 1);
    CHECK(test.worker.received<process_gone>().size() == 1);
    CHECK(test.host_link.received<host_link_close>().size() == 1);
    CHECK(test.ended());
}

TEST_CASE("peer_link: a failed endpoint loses the link and proves nothing") {
    link_fixture test;
    test.connect();
    test.tell(endpoint_failed{
        {4}, test.peer.incarnation, make_error(errc::ucx_failed, "a former endpoint")});
    CHECK(test.losses() == 0);
    test.tell(endpoint_failed{
        {5}, test.peer.incarnation, make_error(errc::ucx_failed, "connection reset")});
    CHECK(contains(test.loss(), "connection reset"));
    CHECK(test.proofs() == 0);
    CHECK(test.closes().empty()); // it was closed before
    CHECK(test.ended());
}

TEST_CASE("peer_link: the end of the same-host link is a death notice; the proof follows and is "
          "passed on once") {
    link_fixture test{reach::same_host};
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    test.host_link_is_down();
    CHECK(contains(test.loss(), "the same-host link was closed by the peer"));
    CHECK(test.proofs() == 0);
    test.vs.advance(1h); // it lives on for the proof
    test.tell(process_gone{test.peer.incarnation});
    CHECK(test.proofs() == 1);
    CHECK(test.losses() == 1);
    CHECK(test.host_link.received<host_link_close>().size() == 1);
    CHECK(test.ended());
}

TEST_CASE(
    "peer_link: a process that is gone before anything else was heard is lost and proven in one") {
    link_fixture test{reach::same_host};
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    test.tell(process_gone{test.peer.incarnation});
    CHECK(contains(test.loss(), "peer_gone: link to gen/0: its process is gone"));
    CHECK(test.proofs() == 1);
    CHECK(test.ended());
}

TEST_CASE(
    "peer_link: close says goodbye, lets it go out, and only then closes the same-host link") {
    link_fixture test{reach::same_host};
    auto close_late = false;
    auto within = test.bounds.dial_deadline;
    SUBCASE("the fabric closes the endpoint") {}
    SUBCASE("it does not: a deadline forces it") {
        close_late = true;
    }
    SUBCASE("it does not, and the stop has less time than a dial") {
        close_late = true;
        within = std::chrono::milliseconds{50};
    }
    if (close_late)
        test.fabric.answer<close_endpoint>([](const close_endpoint& x) -> caf::result<void> {
            if (x.force)
                return caf::unit;
            return caf::delegated<void>{};
        });
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    test.tell(close_link{make_error(errc::stopped, "ctx/0 has stopped"), true, within});
    CHECK(test.losses() == 1);
    REQUIRE(test.sent<termination>().size() == 1);
    CHECK(test.sent<termination>()[0].reason.code == errc::stopped);
    if (close_late) {
        CHECK(test.host_link.received<host_link_close>().empty());
        test.vs.advance(within);
        CHECK(test.closes() == std::vector<bool>{false, true});
    }
    CHECK(test.host_link.received<host_link_close>().size() == 1);
    CHECK(test.proofs() == 0); // this side's own goodbye proves nothing about the peer
    CHECK(test.ended());
}

TEST_CASE("peer_link: an introduction that the fabric has handed to a link before it knew of its "
          "end is for the next link") {
    link_fixture test;
    test.connect();
    // Lost: as when a frozen peer wakes up, hears that it was given up, and is dialled at once.
    test.fabric.answer<close_endpoint>([&](const close_endpoint&) -> caf::result<void> {
        caf::anon_send(test.link, test.next(test.introduction({78})));
        return caf::unit;
    });
    test.arrives(refused{{}, side::generation, {errc::link_lost, "silent for 1200 ms"}});
    CHECK(test.closes() == std::vector<bool>{true});
    CHECK(test.losses() == 1);
    const auto handed_back = test.worker.received<frame_arrived>();
    REQUIRE(handed_back.size() == 1);
    const auto message = decode(handed_back[0].frame, std::size_t{1} << 20);
    REQUIRE(message);
    CHECK(std::get<register_rank_info>(*message).dial == dial_id{78});
    CHECK(test.ended());
}

TEST_CASE("peer_link: a lost link that watches its peer ends when it is closed") {
    link_fixture test{reach::same_host};
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    test.tell(endpoint_failed{
        {5}, test.peer.incarnation, make_error(errc::ucx_failed, "connection reset")});
    test.tell(close_link{make_error(errc::stopped, "ctx/0 has stopped")});
    CHECK(test.losses() == 1);
    CHECK(test.ended());
}

TEST_CASE("peer_link: a peer that dials anew ends this link and is handed to the worker; a replay "
          "is not (I7)") {
    link_fixture test;
    test.accept();
    REQUIRE(test.ready().size() == 1);
    test.tell(frame_arrived{test.frame(test.introduction({77}), 0)}); // the same dial
    CHECK(test.losses() == 0);
    test.tell(frame_arrived{test.frame(test.introduction({78}), 0)});
    CHECK(contains(test.loss(), "the peer dialled again"));
    auto handed_on = test.worker.received<frame_arrived>();
    REQUIRE(handed_on.size() == 1);
    auto message = decode(handed_on[0].frame, std::size_t{1} << 20);
    REQUIRE(message);
    CHECK(std::get<register_rank_info>(*message).dial == dial_id{78});
    CHECK(std::get<register_rank_info>(*message).header.sender == test.peer.incarnation);
}

TEST_CASE(
    "peer_link: what a peer says behind its next introduction is for the next link, also what "
    "has overtaken that") {
    link_fixture test;
    test.accept();
    test.fabric.answer<close_endpoint>( // the fabric does not know yet, and hands on to this link
        [](const close_endpoint&) -> caf::result<void> { return caf::delegated<void>{}; });
    const auto next_dial = std::uint64_t{78} << 32;
    test.tell(frame_arrived{test.frame(request(2), next_dial + 2)});
    test.tell(frame_arrived{test.frame(test.introduction({78}), next_dial)});
    test.tell(frame_arrived{test.frame(request(1), next_dial + 1)});
    CHECK(test.sender.received<request_data>().empty());
    std::vector<std::uint64_t> numbers;
    for (const auto& handed_on : test.worker.received<frame_arrived>()) {
        const auto message = decode(handed_on.frame, std::size_t{1} << 20);
        REQUIRE(message);
        numbers.push_back(header_of(*message).sequence - next_dial);
    }
    CHECK(numbers == std::vector<std::uint64_t>{0, 2, 1});
}

TEST_CASE("peer_link: nothing is sent after the end (H3)") {
    link_fixture test{reach::same_host};
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    test.host_link_is_down();
    auto before = test.sent().size();
    test.tell(send_message{request(1)});
    test.arrives(link_health{{}, 1, false});
    CHECK(test.sent().size() == before);
    CHECK(test.receiver.received<refused>().empty()); // the link's sessions know of the loss
}

TEST_CASE("peer_link: a link that ends for a reason of its own says so, or the peer would go on") {
    link_fixture test;
    test.connect();
    auto damaged = test.frame(request(1), 1);
    damaged.resize(damaged.size() / 2);
    test.tell(frame_arrived{damaged});
    auto last = test.sent<refused>();
    REQUIRE(last.size() == 1);
    CHECK(last[0].header.attempt == attempt{}); // the link as a whole
    CHECK(last[0].reason.code == errc::malformed_message);
    CHECK(test.closes() == std::vector<bool>{false}); // not by force: the frame goes out first
}

TEST_CASE("peer_link: a peer that gives the link up ends it here; that proves nothing") {
    link_fixture test;
    test.connect();
    refused last;
    last.reason = {errc::limit_exceeded, "message 7 is missing"};
    test.tell(frame_arrived{test.plain_frame(last, 1)});
    CHECK(contains(test.loss(), "limit_exceeded: link to gen/0: message 7 is missing"));
    CHECK(test.proofs() == 0);
}

TEST_CASE("peer_link: the answer to a former dial is not taken for the answer to this one") {
    link_fixture test;
    test.dial();
    rank_registered former;
    former.dial = {link_fixture::own_dial.value - 1};
    test.tell(frame_arrived{test.frame(former, 0)});
    CHECK(test.ready().empty());
    test.tell(frame_arrived{test.frame(rank_registered{}, std::uint64_t{9} << 32)});
    REQUIRE(test.ready().size() == 1);
    test.tell(frame_arrived{test.frame(request(1), (std::uint64_t{9} << 32) + 1)});
    CHECK(rids(test.sender.received<request_data>()) == std::vector<std::uint64_t>{1});
}

TEST_CASE("peer_link: what the peer's former link has sent changes nothing, whenever it comes") {
    link_fixture test;
    const auto base = std::uint64_t{9} << 32;
    test.dial();
    test.tell(frame_arrived{test.frame(request(1), 1)});
    test.tell(frame_arrived{test.frame(request(3), base + 1)}); // overtakes the answer
    test.tell(frame_arrived{test.frame(rank_registered{}, base)});
    test.tell(frame_arrived{test.frame(request(2), 2)});
    test.tell(frame_arrived{test.frame(request(4), base + 2)});
    CHECK(rids(test.sender.received<request_data>()) == std::vector<std::uint64_t>{3, 4});
}

TEST_CASE("peer_link: a replay of a former dial does not end the link that the last one made") {
    link_fixture test;
    test.accept(); // dial 77
    REQUIRE(test.ready().size() == 1);
    test.tell(frame_arrived{test.frame(test.introduction({76}), 0)});
    CHECK(test.losses() == 0);
    CHECK(test.worker.received<frame_arrived>().empty());
}

TEST_CASE("peer_link: an introduction that meets a lost link is handed to the worker") {
    link_fixture test{reach::same_host};
    test.dial();
    test.host_link_is_up();
    test.arrives(rank_registered{});
    test.host_link_is_down(); // the link lives on and watches the peer's process
    test.tell(frame_arrived{test.frame(test.introduction(), 0)});
    CHECK(test.worker.received<frame_arrived>().size() == 1);
}
