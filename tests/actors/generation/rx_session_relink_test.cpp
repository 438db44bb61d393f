// SPDX-License-Identifier: Apache-2.0
// A receiving session whose link to a writer breaks and comes back, and when its other clock
// starts.
#include "tests/actors/generation/rx_session_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE(
    "rx_session: while a writer has begun nothing, the loss of its link costs nothing: the same "
    "is asked again over the new link, for the same attempt (H51)") {
    rx_fixture test;
    test.start(2);
    test.report(1);
    test.peer_is_lost(0, true);
    CHECK(test.outcomes().empty());
    auto status = test.vs.ask_and_run<session_status>(test.session, query_status{});
    REQUIRE(status.ok());
    CHECK(contains(status.value().waits_for, "a link to context rank 0"));
    test.ready(0);
    const auto asked = test.sent_to<request_data>(0);
    REQUIRE(asked.size() == 2);
    CHECK(asked[1].header.attempt == rx_fixture::attempt);
    CHECK(asked[1].target == asked[0].target);
    CHECK_FALSE(asked[1].renewal); // the first one may never have arrived
    test.report(0);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: writers that are told with their links are asked without a further word") {
    rx_fixture test;
    test.tell(bind_writers{.writers = {rx_fixture::writer(0), rx_fixture::writer(1)},
                           .error = {},
                           .linked = {test.view_of(0)}});
    test.receive();
    CHECK(test.sent_to<request_data>(0).size() == 1);
    CHECK(test.sent_to<request_data>(1).empty());
    test.ready(1);
    CHECK(test.sent_to<request_data>(1).size() == 1);
}

TEST_CASE("rx_session: a slice that the host lends while the link is down is asked for when it is "
          "back") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0)});
    test.ready(0);
    test.receive(false);
    test.peer_is_lost(0, true);
    test.receive(true);
    CHECK(test.sent_to<request_data>(0).size() == 1);
    test.ready(0);
    CHECK(test.sent_to<request_data>(0).size() == 3);
}

TEST_CASE(
    "rx_session: it ends when the dial fails as well, when the process turns out to be gone, and "
    "when its writer had begun") {
    rx_fixture test;
    test.start(1);
    SUBCASE("the dial fails") {
        test.peer_is_lost(0, true);
        test.peer_is_lost(0);
    }
    SUBCASE("the process is gone") {
        test.peer_is_lost(0, true);
        test.process_is_gone(0);
    }
    SUBCASE("it had said that it begins") {
        test.tell(transfer_started{rx_fixture::header(0)});
        test.peer_is_lost(0, true);
    }
    SUBCASE("it had reported a piece") {
        test.report(0, {{0}, false});
        test.peer_is_lost(0, true);
    }
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "context rank 0"));
}

TEST_CASE(
    "rx_session: when the link to a writer with a mapping comes back after the session's end, a "
    "cancel asks for the proof that went with the former link") {
    rx_fixture test;
    test.start(1);
    test.report(0, {{0}, false});
    test.peer_is_lost(0, true);
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 0);
    test.ready(0);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
    test.report(0, {{0}, false}); // known
    CHECK(test.releases() == 0);
    test.report(0, {{1}, true}, agent_result::failed);
    CHECK(test.releases() == 1);
}

TEST_CASE(
    "rx_session: the other clock starts when a writer begins, not at its first report (H63)") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0, true, false, 0), rx_fixture::writer(1, true, false, 1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    CHECK(test.owner.received<session_transferring>().empty());
    test.tell(transfer_started{rx_fixture::header(1)});
    REQUIRE(test.owner.received<session_transferring>().size() == 1);
    CHECK(test.owner.received<session_transferring>()[0].context_dp_rank == 1);
    CHECK(test.sent_to<cancel_session>(0).size() == 1); // another group runs the request
    test.report(1);
    CHECK(test.owner.received<session_transferring>().size() == 1);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("rx_session: a start that nobody asked for changes nothing") {
    rx_fixture test;
    test.start(1);
    test.tell(transfer_started{rx_fixture::header(5)});
    test.tell(transfer_started{rx_fixture::header(0, payload_kind::kv, {{0}, true}, 7)});
    CHECK(test.owner.received<session_transferring>().empty());
}

TEST_CASE("rx_session: a link that has ended before it took the request leaves nothing on loan") {
    rx_fixture test;
    test.link(0).answer<send_message>([](const send_message&) -> caf::result<void> {
        return make_error(errc::link_lost, "it has ended");
    });
    test.start(1);
    CHECK(test.outcomes().empty());
    test.peer_is_lost(0);
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 1);
}
