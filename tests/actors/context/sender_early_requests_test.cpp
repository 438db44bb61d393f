// SPDX-License-Identifier: Apache-2.0
// Requests that come before their session: kept, renewed, bounded, answered when nobody opens it.
#include "tests/actors/context/sender_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE(
    "sender: a request that comes before its session is remembered and served when it opens") {
    sender_fixture test;
    test.request(sender_fixture::ask(7));
    test.vs.advance(100s);
    CHECK(test.answers().empty());
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().size() == 1);
    test.vs.advance(30s); // without a renewal its lease would be over
    CHECK(test.answers().empty());
}

TEST_CASE(
    "sender: a request whose session never opens is answered gone when its lease ends (H60, H61)") {
    sender_fixture test;
    test.request(sender_fixture::ask(7));
    test.vs.advance(test.bounds.early_request_lease - 1ms);
    CHECK(test.answers().empty());
    test.vs.advance(1ms);
    REQUIRE(test.answers().size() == 1);
    CHECK(test.answers()[0].header.attempt == attempt{11});
    CHECK(contains(test.answers()[0].reason.text,
                   "rid 7 was not opened on ctx/0 within early_request_lease"));
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().empty()); // the receiver gave this request up
    test.vs.advance(500s);
    CHECK(test.answers().size() == 1);
}

TEST_CASE("sender: a further request of the same rid renews the lease") {
    sender_fixture test;
    test.request(sender_fixture::ask(7));
    test.vs.advance(80s);
    auto second = sender_fixture::ask(7);
    second.header.receive_slice = {1};
    test.request(second);
    test.vs.advance(80s);
    CHECK(test.answers().empty());
    test.vs.advance(40s);
    CHECK(test.answers().size() == 2);
}

TEST_CASE("sender: a replayed early request is served once (H23)") {
    sender_fixture test;
    test.request(sender_fixture::ask(7));
    test.request(sender_fixture::ask(7));
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().size() == 1);
}

TEST_CASE("sender: early_requests_max is enforced, and room is given back") {
    limits bounds;
    bounds.early_requests_max = 2;
    sender_fixture test{bounds};
    auto refusals = [&] { return test.sent_to<refused>(1).size(); };
    test.request(sender_fixture::ask(1));
    test.request(sender_fixture::ask(1)); // a replay of the same request takes no second place
    test.request(sender_fixture::ask(2));
    CHECK(refusals() == 0);
    test.request(sender_fixture::ask(3));
    REQUIRE(refusals() == 1);
    CHECK(contains(test.sent_to<refused>(1)[0].reason.text, "early_requests_max = 2"));
    SUBCASE("when a session opens") {
        CHECK(test.open(1).ok());
    }
    SUBCASE("when the receiver cancels") {
        test.cancel(1);
    }
    SUBCASE("when the lease ends") {
        test.vs.advance(bounds.early_request_lease);
    }
    SUBCASE("when the peer is lost") {
        test.go_down(1);
        test.come_up(1);
    }
    test.request(sender_fixture::ask(4));
    CHECK(refusals() == 1);
}

TEST_CASE("sender: a peer's early requests vanish with it, others stay") {
    sender_fixture test;
    test.come_up(2);
    test.request(sender_fixture::ask(7, {11}, 1));
    test.request(sender_fixture::ask(7, {22}, 2));
    test.go_down(1);
    test.vs.advance(test.bounds.early_request_lease);
    CHECK(test.answers().empty());
    CHECK(test.sent_to<gone>(2).size() == 1);
}

TEST_CASE("sender: a request of a peer without a link is ignored") {
    sender_fixture test;
    test.request(sender_fixture::ask(7, {11}, 31337));
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().empty());
}

TEST_CASE("sender: a cancel of what waits, or of what nobody knows, is answered gone (I9)") {
    sender_fixture test;
    test.request(sender_fixture::ask(7));
    test.cancel(7);
    test.cancel(7);
    test.cancel(8);
    CHECK(test.answers().size() == 3);
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().empty());
}

TEST_CASE("sender: what a receiver has given up before its session opens ends that at once") {
    limits bounds;
    bounds.early_requests_max = 4;
    sender_fixture test{bounds};
    const auto outcomes = [&test] { return test.observer.received<session_finished>(); };
    SUBCASE("before or after it had asked") {
        test.request(sender_fixture::ask(8));
        for (const std::uint64_t request : {7, 8}) {
            test.cancel(request);
            REQUIRE(test.open(request).ok());
        }
        REQUIRE(outcomes().size() == 2);
        for (const auto& each : outcomes()) {
            CHECK(each.state == session_state::cancelled);
            CHECK(contains(text_of(each.error), "not wanted"));
        }
        CHECK(test.observer.received<session_released>().size() == 2);
    }
    SUBCASE("unless it asks with another attempt") {
        test.cancel(7);
        test.request(sender_fixture::ask(7, {12}));
        const auto opened = test.open(7);
        REQUIRE(opened.ok());
        test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
        CHECK(test.puts().size() == 1);
        CHECK(outcomes().empty());
    }
    SUBCASE("for one lease") {
        test.cancel(7);
        test.vs.advance(bounds.early_request_lease);
        REQUIRE(test.open(7).ok());
        CHECK(outcomes().empty());
    }
    SUBCASE("but not because another group runs the request") {
        cancel_session dismissed{
            sender_fixture::ask(7).header, side::context, {errc::not_selected, "group 1 runs it"}};
        dismissed.header.kind = payload_kind::none;
        test.vs.tell_and_run(test.sender, dismissed);
        REQUIRE(test.open(7).ok());
        CHECK(outcomes().empty());
    }
    SUBCASE("and never takes the room of requests") {
        for (std::uint64_t request = 10; request < 20; ++request)
            test.cancel(request);
        for (std::uint64_t request = 1; request <= 4; ++request)
            test.request(sender_fixture::ask(request));
        CHECK(test.sent_to<refused>(1).empty());
    }
}

TEST_CASE("sender: a receiver that gives up before it asks ends the session that waits for it") {
    sender_fixture test;
    REQUIRE(test.open(7).ok());
    test.cancel(7);
    REQUIRE(test.observer.received<session_finished>().size() == 1);
    CHECK(test.observer.received<session_finished>()[0].state == session_state::cancelled);
    CHECK(test.answers().size() == 1);
    SUBCASE("its late cancel does not end the next session of the rid") {
        test.request(sender_fixture::ask(7)); // answered: the rid was given up
        REQUIRE(test.open(7).ok());
        test.cancel(7);
        CHECK(test.observer.received<session_finished>().size() == 1);
        CHECK(test.answers().size() == 3);
    }
}

TEST_CASE(
    "sender: a renewed request is kept for another lease; one that is unknown is answered gone") {
    sender_fixture test;
    auto again = sender_fixture::ask(7);
    again.renewal = true;
    test.request(again);
    REQUIRE(test.answers().size() == 1);
    CHECK(contains(test.answers()[0].reason.text, "rid 7 is not waiting on ctx/0 any more"));
    test.request(sender_fixture::ask(7));
    test.vs.advance(test.bounds.early_request_lease - 1ms);
    test.request(again);
    test.vs.advance(test.bounds.early_request_lease - 1ms);
    CHECK(test.answers().size() == 1);
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().size() == 1); // one put, although the request came more than once
}

TEST_CASE("sender: requests for nothing never take the room of requests that count") {
    limits bounds;
    bounds.early_requests_max = 4;
    sender_fixture test{bounds};
    for (std::uint64_t request = 1; request <= 10; ++request) {
        auto notice = sender_fixture::ask(request);
        notice.kv = false;
        test.request(notice);
    }
    test.request(sender_fixture::ask(11));
    test.request(sender_fixture::ask(12));
    CHECK(test.sent_to<refused>(1).empty());
    test.request(sender_fixture::ask(13));
    CHECK(test.sent_to<refused>(1).size() == 1);
}

TEST_CASE("sender: an early request that was renewed is served when its session opens") {
    sender_fixture test;
    test.request(sender_fixture::ask(7));
    auto again = sender_fixture::ask(7);
    again.renewal = true;
    test.request(again);
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    CHECK(test.puts().size() == 1);
    CHECK(test.answers().empty());
}
