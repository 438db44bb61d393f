// SPDX-License-Identifier: Apache-2.0
// The sender: sessions by rid, their deadlines, limits and outcomes.
#include "tests/actors/context/sender_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("sender: a rid has one live session; its number is free again after release") {
    sender_fixture test;
    auto first = test.open(7);
    REQUIRE(first.ok());
    auto second = test.open(7);
    CHECK(second.code() == errc::duplicate);
    CHECK(contains(text_of(second.error()), "rid 7"));
    test.vs.tell_and_run(first.value().session, cancel_request{make_error(errc::cancelled, "no")});
    CHECK(test.open(7).ok());
}

TEST_CASE("sender: a rid of more than 63 bits is refused") {
    sender_fixture test;
    CHECK(test.open(rid_max).ok());
    CHECK(test.open(rid_max + 1).code() == errc::invalid_argument);
}

TEST_CASE("sender: sessions_max is enforced by name") {
    limits bounds;
    bounds.sessions_max = 1;
    sender_fixture test{bounds};
    CHECK(test.open(1).ok());
    auto refused = test.open(2);
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(contains(text_of(refused.error()), "sessions_max = 1"));
}

TEST_CASE("sender: each session ends at its own deadline (H62)") {
    sender_fixture test;
    CHECK(test.open(1, 30s).ok());
    CHECK(test.open(2, 10s).ok());
    test.vs.advance(10s);
    auto outcomes = test.observer.received<session_finished>();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].request == rid{2});
    CHECK(code_of(outcomes[0].error) == errc::deadline_exceeded);
    test.vs.advance(20s);
    CHECK(test.observer.received<session_finished>().size() == 2);
}

TEST_CASE("sender: lists all its sessions") {
    sender_fixture test;
    CHECK(test.open(1).ok());
    CHECK(test.open(2).ok());
    auto all = test.vs.ask_and_run<session_list>(test.sender, list_sessions{});
    REQUIRE(all.ok());
    CHECK(all.value().sessions.size() == 2);
}

TEST_CASE(
    "sender: of many sessions it lists as many as are wanted, those that end next, with their "
    "age; the others are not asked") {
    sender_fixture test;
    for (std::uint64_t request = 1; request <= 50; ++request)
        REQUIRE(test.open(request, std::chrono::seconds{100 - request}).ok());
    for (std::uint64_t request = 51; request <= 60; ++request)
        test.request(sender_fixture::ask(request)); // their host has not opened them
    test.vs.advance(4s);
    const auto listed =
        test.vs.ask_and_run<session_list>(test.sender, list_sessions{.request = {}, .most = 3});
    REQUIRE(listed.ok());
    std::vector<std::uint64_t> requests;
    for (const auto& each : listed.value().sessions) {
        requests.push_back(each.request.value);
        REQUIRE(each.opened_at);
        CHECK(test.vs.now() - *each.opened_at == 4s);
    }
    std::sort(requests.begin(), requests.end());
    CHECK(requests == std::vector<std::uint64_t>{48, 49, 50});
    CHECK(listed.value().unopened.size() == 3);
}

TEST_CASE("sender: the wait for the peer and the transfer have clocks of their own") {
    sender_fixture test;
    auto opened = test.vs.ask_and_run<tx_opened>(
        test.sender, open_tx{{7}, aux_mode::none, test.observer.handle(), 60s, 10s});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    test.vs.advance(59s);
    test.request(sender_fixture::ask(7));
    REQUIRE(test.puts().size() == 1);
    test.vs.advance(9s);
    CHECK(test.observer.received<session_finished>().empty());
    test.vs.advance(1s);
    REQUIRE(test.observer.received<session_finished>().size() == 1);
    CHECK(code_of(test.observer.received<session_finished>()[0].error) == errc::deadline_exceeded);
}

TEST_CASE("sender: a session of which no receiver wants bytes ends when its host has sent "
          "everything (I5)") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    auto notice = sender_fixture::ask(7);
    notice.kv = false;
    notice.target.groups.clear();
    notice.header.kind = payload_kind::none;
    SUBCASE("but not when the layouts say that it has bytes to send") {
        test.request(notice);
        CHECK(test.observer.received<session_finished>().at(0).state == session_state::error);
    }
    SUBCASE("a rank that has no bytes for the receiver") {
        test.make_bystander();
        test.request(notice);
        CHECK(test.observer.received<session_finished>().at(0).state
              == session_state::kv_transferred);
        CHECK(test.puts().empty());
    }
}

TEST_CASE("sender: an event of a peer reaches the sessions that it asked, and no other") {
    sender_fixture test;
    test.come_up(2);
    for (std::uint64_t request = 1; request <= 30; ++request) {
        REQUIRE(test.open(request).ok());
        test.request(sender_fixture::ask(request));
    }
    REQUIRE(test.open(31).ok());
    test.request(sender_fixture::ask(31, {12}, 2));
    test.request(sender_fixture::ask(32)); // its host has not opened it
    test.request(sender_fixture::ask(33, {12}, 2));
    const auto lost = [](std::uint64_t process) {
        return peer_lost{{process}, make_error(errc::link_lost, "no route")};
    };
    CHECK(test.vs.disturbed_by(test.sender, lost(2)) == 1);
    CHECK(test.vs.disturbed_by(test.sender, process_gone{{2}}) == 1);
    CHECK(test.observer.received<session_finished>().size() == 1);
    CHECK(test.vs.ask_and_run<session_list>(test.sender, list_sessions{}).value().unopened.size()
          == 1);
    CHECK(test.vs.disturbed_by(test.sender, lost(1)) == 30);
    CHECK(test.vs.disturbed_by(test.sender, process_gone{{1}}) == 30);
    CHECK(test.observer.received<session_finished>().size() == 31);
    CHECK(test.vs.ask_and_run<session_list>(test.sender, list_sessions{}).value().unopened.empty());
}
