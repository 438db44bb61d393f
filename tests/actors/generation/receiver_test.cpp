// SPDX-License-Identifier: Apache-2.0
// The receiver: sessions by attempt, their deadlines, limits and ends.
#include "tests/actors/generation/receiver_fixture.hpp"

#include <set>

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE(
    "receiver: asks every rank of the KV cohort, once its link is up, and names all who ask it") {
    receiver_fixture test;
    auto session = test.open(7);
    auto dialled = test.worker.received<connect_peer>();
    REQUIRE(dialled.size() == 2);
    CHECK(dialled[0].peer.incarnation == incarnation{100});
    CHECK(dialled[1].peer.incarnation == incarnation{101});
    CHECK(test.sent<request_data>().empty());
    test.come_up(100);
    test.come_up(101);
    auto asked = test.sent<request_data>();
    REQUIRE(asked.size() == 2);
    CHECK(asked[0].header.attempt == session.attempt);
    CHECK(asked[0].receivers == std::vector<rank_id>{{0}});
    test.report(session, 100);
    test.report(session, 101);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::kv_transferred);
}

TEST_CASE("receiver: reports go to the session of their attempt; others are answered gone") {
    receiver_fixture test;
    auto first = test.open(7);
    auto second = test.open(7); // the same rid, another attempt
    CHECK(first.attempt != second.attempt);
    test.come_up(100);
    test.come_up(101);
    test.report(second, 100);
    test.report(second, 101);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].attempt == second.attempt);
    test.report(second, 100); // late: its session has retired
    REQUIRE(test.sent<gone>().size() == 1);
    CHECK(test.sent<gone>()[0].to == side::context);
    CHECK(test.sent<gone>()[0].header.attempt == second.attempt);
    test.report({{}, attempt{1}}, 31337); // a stranger gets no answer
    CHECK(test.sent<gone>().size() == 1);
}

TEST_CASE("receiver: what asks for an end that has come already is not answered (I9)") {
    receiver_fixture test;
    test.open(7);
    test.come_up(100);
    message_header unknown;
    unknown.sender = {100};
    unknown.attempt = {1};
    test.vs.tell_and_run(test.receiver, cancel_session{unknown, side::generation, {}});
    test.vs.tell_and_run(test.receiver, gone{unknown, side::generation, {}});
    test.vs.tell_and_run(test.receiver, refused{unknown, side::generation, {}});
    CHECK(test.sent<gone>().empty());
    CHECK(test.outcomes().empty());
}

TEST_CASE("receiver: each session ends at its own deadline") {
    receiver_fixture test;
    test.open(1, receiver_fixture::context, 30s);
    test.open(2, receiver_fixture::context, 10s);
    test.vs.advance(10s);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].request == rid{2});
    CHECK(contains(describe(test.outcomes()[0].error), "a link to context rank 0"));
    test.vs.advance(20s);
    CHECK(test.outcomes().size() == 2);
}

TEST_CASE("receiver: refuses too many sessions and rids that are none, by name") {
    limits bounds;
    bounds.sessions_max = 1;
    receiver_fixture test{bounds};
    auto ask = [&](std::uint64_t request) {
        return test.vs.ask_and_run<rx_opened>(
            test.receiver,
            receiver_fixture::question(request, receiver_fixture::context, test.observer.handle()));
    };
    CHECK(ask(rid_max + 1).code() == errc::invalid_argument);
    test.open(1);
    auto refused = ask(2);
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(contains(text_of(refused.error()), "sessions_max = 1"));
}

TEST_CASE("receiver: of many sessions it lists as many as are wanted, with their age") {
    receiver_fixture test;
    for (std::uint64_t request = 1; request <= 20; ++request) {
        test.open(request);
        test.vs.advance(1s);
    }
    list_sessions wanted;
    wanted.most = 3;
    const auto listed = test.vs.ask_and_run<session_list>(test.receiver, wanted);
    REQUIRE(listed.ok());
    std::set<std::uint64_t> requests;
    for (const auto& each : listed.value().sessions) {
        requests.insert(each.request.value);
        REQUIRE(each.opened_at);
        CHECK(test.vs.now() - *each.opened_at
              == std::chrono::seconds{21} - std::chrono::seconds{each.request.value});
    }
    CHECK(requests == std::set<std::uint64_t>{1, 2, 3}); // opened first, they end first
}

TEST_CASE("receiver: a stop refuses, cancels, and answers when the last session is released") {
    receiver_fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    auto all = test.vs.ask_and_run<session_list>(test.receiver, list_sessions{});
    REQUIRE(all.ok());
    CHECK(all.value().sessions.size() == 1);
    auto stopped = test.vs.ask_and_run<void>(
        test.receiver, cancel_request{make_error(errc::stopped, "gen/0 is stopping")});
    CHECK(stopped.pending());
    CHECK(test.sent<cancel_session>().size() == 2);
    CHECK(test.vs
              .ask_and_run<rx_opened>(
                  test.receiver,
                  receiver_fixture::question(8, receiver_fixture::context, test.observer.handle()))
              .code()
          == errc::stopped);
    test.report(session, 100);
    CHECK(stopped.pending());
    test.report(session, 101);
    CHECK(stopped.ok());
}

TEST_CASE(
    "receiver: requests are renewed before writers that wait for their host forget them (H60)") {
    receiver_fixture test;
    test.open(7, receiver_fixture::context, 600s);
    test.come_up(100);
    test.come_up(101);
    CHECK(test.sent<request_data>().size() == 2);
    test.vs.advance(test.bounds.early_request_lease);
    auto asked = test.sent<request_data>();
    REQUIRE(asked.size() == 8);
    CHECK(asked[7].renewal);
}

TEST_CASE("receiver: a session's second clock starts with its first report") {
    receiver_fixture test;
    auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver,
        open_rx{
            {7}, aux_mode::none, receiver_fixture::context, 0, test.observer.handle(), 60s, 5s});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    test.vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
    test.come_up(100);
    test.come_up(101);
    test.vs.advance(50s);
    test.report(opened.value(), 100);
    test.vs.advance(4s);
    CHECK(test.outcomes().empty());
    test.vs.advance(1s);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(code_of(test.outcomes()[0].error) == errc::deadline_exceeded);
}

TEST_CASE("receiver: of a session that has ended nothing stays in memory, however it ended") {
    receiver_fixture test{{}, true};
    test.come_up(100);
    test.come_up(101);
    auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver,
        receiver_fixture::question(7, receiver_fixture::context, test.observer.handle()));
    REQUIRE(opened.ok());
    const watched_actor session{opened.value().session};
    SUBCASE("with success") {
        test.vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
        test.report(opened.value(), 100);
        test.report(opened.value(), 101);
    }
    SUBCASE("cancelled before anything was lent") {
        test.vs.tell_and_run(opened.value().session, cancel_request{});
    }
    SUBCASE("with its actor") {
        test.die(opened.value());
    }
    REQUIRE(test.outcomes().size() == 1);
    REQUIRE(test.releases() == 1);
    opened = {};
    test.vs.run();
    CHECK(session.references() == 0);
}

TEST_CASE("receiver: its sessions end with it") {
    receiver_fixture test;
    test.open(7);
    test.open(8);
    caf::anon_send_exit(test.receiver, caf::exit_reason::unknown);
    test.vs.run();
    REQUIRE(test.outcomes().size() == 2);
    for (const auto& outcome : test.outcomes())
        CHECK(contains(describe(outcome.error), "the receiver of gen/0 died"));
}
