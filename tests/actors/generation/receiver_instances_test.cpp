// SPDX-License-Identifier: Apache-2.0
// How a receiver finds the ranks of an instance: what it asks, whom, how often, and when anew.
#include "tests/actors/generation/receiver_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("receiver: a rank that is told to receive from its own instance says so by name") {
    receiver_fixture test;
    test.open(7, receiver_fixture::own);
    auto outcomes = test.observer.received<session_finished>();
    REQUIRE(outcomes.size() == 1);
    CHECK(code_of(outcomes[0].error) == errc::invalid_argument);
    CHECK(contains(text_of(outcomes[0].error), "gen:1 is the endpoint of gen/0 itself"));
    CHECK(test.worker.received<connect_peer>().empty());
}

TEST_CASE(
    "receiver: after a session that failed the next one asks which ranks its instance has now, "
    "and goes there") {
    receiver_fixture test;
    test.open(1, receiver_fixture::context, 2s);
    test.come_up(100);
    test.come_up(101);
    const auto known = test.worker.received<connect_peer>().size();
    test.restart_context(200); // the name points elsewhere; nothing happens to the former ranks
    test.open(2, receiver_fixture::context, 60s);
    CHECK(test.fetches(receiver_fixture::context) == 1);
    test.vs.advance(2s); // nobody serves the first one there
    REQUIRE(test.outcomes().size() == 1);
    SUBCASE("others answer") {
        test.open(3);
        CHECK(test.fetches(receiver_fixture::context) == 2);
        std::set<std::uint64_t> dialled;
        for (const auto& x : test.worker.received<connect_peer>())
            dialled.insert(x.peer.incarnation.value);
        CHECK(dialled == std::set<std::uint64_t>{100, 101, 200, 201});
        test.open(4);
        CHECK(test.fetches(receiver_fixture::context) == 2);
    }
    SUBCASE("nobody answers: those known are better than none") {
        test.instances->erase(receiver_fixture::context);
        test.open(3);
        CHECK(test.fetches(receiver_fixture::context) == 2);
        CHECK(test.worker.received<connect_peer>().size() == known);
        CHECK(test.outcomes().size() == 1);
    }
}

TEST_CASE("receiver: sessions that fail one after the other do not ask one after the other") {
    receiver_fixture test;
    for (std::uint64_t request = 1; request <= 100; ++request) {
        test.open(request, receiver_fixture::context, 5ms);
        test.vs.advance(10ms);
    }
    CHECK(test.outcomes().size() == 100);
    CHECK(test.fetches(receiver_fixture::context) <= 2);
}

TEST_CASE("receiver: an instance listed in any order is understood") {
    receiver_fixture test;
    std::reverse(test.instances->at(receiver_fixture::context).begin(),
                 test.instances->at(receiver_fixture::context).end());
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    test.report(session, 100); // rank 0 with incarnation 100: not swapped
    test.report(session, 101);
    CHECK(test.outcomes().size() == 1);
}

TEST_CASE("receiver: many sessions cost one question per instance and one dial per rank") {
    receiver_fixture test;
    std::vector<reply<rx_opened>> opened;
    for (std::uint64_t request = 1; request <= 5; ++request)
        opened.push_back(test.vs.ask<rx_opened>(
            test.receiver, receiver_fixture::question(request, receiver_fixture::context,
                                                      test.observer.handle())));
    test.vs.run();
    std::set<attempt> attempt;
    for (const auto& one : opened) {
        REQUIRE(one.ok());
        attempt.insert(one.value().attempt);
        test.vs.track(one.value().session);
    }
    CHECK(attempt.size() == 5);
    test.open(6);
    CHECK(test.fetches(receiver_fixture::context) == 1);
    CHECK(test.fetches(receiver_fixture::own) == 1);
    CHECK(test.worker.received<connect_peer>().size() == 2);
}

TEST_CASE("receiver: an instance that cannot be asked fails the sessions concerned only") {
    receiver_fixture test;
    test.open(7);
    test.open(8, "nowhere:1");
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].request == rid{8});
    CHECK(contains(describe(test.outcomes()[0].error), "dial_failed: nowhere:1: nobody there"));
    test.open(9, "nowhere:1");
    test.vs.advance(back_off::longest);
    CHECK(test.fetches("nowhere:1") == 2); // a failure is not remembered for longer (H36)
}

TEST_CASE("receiver: sessions wait for their turn when too many instances are asked at once") {
    receiver_fixture test;
    auto refusals = std::make_shared<int>(3);
    test.info.answer<fetch_instance_info>(
        [known = test.instances,
         refusals](const fetch_instance_info& ask) -> caf::result<instance_info> {
            if (ask.endpoint == receiver_fixture::context && --*refusals >= 0)
                return make_error(errc::limit_exceeded, "info_calls_max = 64 questions are open");
            return instance_info{{}, known->at(ask.endpoint)};
        });
    test.open(7);
    CHECK(test.fetches(receiver_fixture::context) == 1);
    CHECK(test.worker.received<connect_peer>().empty());
    test.vs.advance(back_off::longest); // it asks again, more and more seldom
    CHECK(test.outcomes().empty());
    CHECK(test.worker.received<connect_peer>().size() == 2);
    CHECK(test.fetches(receiver_fixture::context) == 4);
}

TEST_CASE("receiver: an instance that does not fit fails the session with both sides' values") {
    receiver_fixture test;
    auto other = receiver_fixture::format();
    other.head_dim = 8;
    (*test.instances)["odd:1"] = make_instance("odd", {}, other);
    (*test.instances)["odd:1"][0].incarnation = {300}; // not this rank itself
    test.open(7, "odd:1");
    REQUIRE(test.outcomes().size() == 1);
    CHECK(code_of(test.outcomes()[0].error) == errc::layout_mismatch);
    CHECK(contains(describe(test.outcomes()[0].error), "rid 7"));
    // The context's session would wait for this rank until its deadline.
    test.come_up(300);
    const auto told = test.sent<cancel_session>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].header.request == rid{7});
    CHECK(told[0].to == side::context);
    CHECK(told[0].reason.code == errc::layout_mismatch);
    CHECK(test.sent<request_data>().empty());
}

TEST_CASE(
    "receiver: after the loss of a rank its instance is asked anew, so a restart is found (H35)") {
    receiver_fixture test;
    test.open(7);
    test.come_up(100);
    test.come_up(101);
    test.restart_context(200);
    test.go_down(101);
    CHECK(test.outcomes().empty()); // it is dialled again, and again if that breaks
    for (int i = 0; i < 3; ++i)
        test.go_down(101);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::error);
    auto again = test.open(8);
    CHECK(test.fetches(receiver_fixture::context) == 2);
    CHECK(test.fetches(receiver_fixture::own) == 1);
    test.come_up(200);
    test.come_up(201);
    test.report(again, 200);
    test.report(again, 201);
    REQUIRE(test.outcomes().size() == 2);
    CHECK(test.outcomes()[1].state == session_state::kv_transferred);
}

TEST_CASE("receiver: without a DP rank all groups of the context are asked") {
    receiver_fixture test;
    test.restart_context(100, split{2, 1, 1, true});
    auto opened = test.vs.ask_and_run<rx_opened>(test.receiver, open_rx{{7},
                                                                        aux_mode::none,
                                                                        receiver_fixture::context,
                                                                        std::nullopt,
                                                                        test.observer.handle(),
                                                                        60s});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    test.vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
    test.come_up(100);
    test.come_up(101);
    CHECK(test.sent<request_data>().size() == 2);
    test.report(opened.value(), 101);
    CHECK(test.sent<cancel_session>().size() == 1);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::kv_transferred);
}

TEST_CASE("receiver: an instance that does not answer is asked again after a wait, not for every "
          "session") {
    receiver_fixture test;
    const std::string nobody = "nobody:1";
    test.open(1, nobody);
    CHECK(test.fetches(nobody) == 1);
    CHECK(test.outcomes().size() == 1);
    for (std::uint64_t request = 2; request < 10; ++request)
        test.open(request, nobody);
    CHECK(test.fetches(nobody) == 1);
    CHECK(test.outcomes().size() == 1); // the others wait, within their deadlines
    test.vs.advance(back_off::longest);
    CHECK(test.fetches(nobody) == 2);
    CHECK(test.outcomes().size() == 9);
}

TEST_CASE("receiver: sessions that come while an instance restarts are served when it is back") {
    receiver_fixture test;
    auto ranks = test.instances->extract(receiver_fixture::context);
    test.open(1);
    auto session = test.open(2);
    test.instances->insert(std::move(ranks));
    test.vs.advance(back_off::longest);
    test.come_up(100);
    test.come_up(101);
    test.report(session, 100);
    test.report(session, 101);
    REQUIRE(test.outcomes().size() == 2);
    CHECK(test.outcomes()[1].state == session_state::kv_transferred);
}
