// SPDX-License-Identifier: Apache-2.0
// Whom a receiver tells of an end, whom it dials again, and what proves that pages are free.
#include "tests/actors/generation/receiver_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("receiver: a session that ends before it has asked says so to its writers, as soon as "
          "their links are up") {
    receiver_fixture test;
    const auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver,
        receiver_fixture::question(7, receiver_fixture::context, test.observer.handle()));
    REQUIRE(opened.ok());
    const auto session = opened.value().session;
    test.vs.track(session);
    SUBCASE("no link is up yet") {}
    SUBCASE("one is") {
        test.come_up(100);
    }
    test.vs.tell_and_run(session, cancel_request{make_error(errc::cancelled, "not wanted")});
    CHECK(test.releases() == 1);
    SUBCASE("and the rid stays unused") {
        test.writers_come_up();
        const auto told = test.sent<cancel_session>();
        REQUIRE(told.size() == 2);
        for (const auto& each : told) {
            CHECK(each.header.attempt == opened.value().attempt);
            CHECK(each.header.kind == payload_kind::none);
            CHECK(each.reason.code == errc::cancelled);
        }
    }
    SUBCASE("and the rid is opened anew: the former attempt must not end that session") {
        const auto before = test.sent<cancel_session>().size();
        test.open(7);
        test.writers_come_up();
        CHECK(test.sent<cancel_session>().size() == before);
        CHECK(test.sent<request_data>().size() == 2);
    }
}

TEST_CASE(
    "receiver: a session that ends before its instance is known says so to its ranks when they "
    "are (I9)") {
    receiver_fixture test;
    auto busy = std::make_shared<bool>(true);
    test.info.answer<fetch_instance_info>(
        [known = test.instances,
         busy](const fetch_instance_info& ask) -> caf::result<instance_info> {
            if (ask.endpoint == receiver_fixture::context && *busy)
                return make_error(errc::limit_exceeded, "info_calls_max = 64 questions are open");
            return instance_info{{}, known->at(ask.endpoint)};
        });
    const auto session = test.open(7);
    test.vs.tell_and_run(session.session,
                         cancel_request{make_error(errc::cancelled, "not wanted")});
    CHECK(test.releases() == 1);
    CHECK(test.worker.received<connect_peer>().empty());
    *busy = false;
    test.vs.advance(back_off::longest);
    CHECK(test.writers_come_up() == std::vector<std::uint64_t>{100, 101});
    const auto told = test.sent<cancel_session>();
    REQUIRE(told.size() == 2);
    CHECK(told[0].header.attempt == session.attempt);
    CHECK(told[0].to == side::context);
    CHECK(told[0].reason.code == errc::cancelled);
}

TEST_CASE("receiver: context ranks without a part in a session that fails are told of that") {
    receiver_fixture test;
    test.restart_context(100, split{4}); // two heads on four ranks: two ranks hold replicas
    test.open(7, receiver_fixture::context, 2s);
    const auto writers = test.writers_come_up();
    REQUIRE(writers.size() == 2);
    SUBCASE("it fails before bytes move") {
        test.vs.advance(2s);
        REQUIRE(test.outcomes().size() == 1);
        for (std::uint64_t process = 100; process < 104; ++process)
            if (std::find(writers.begin(), writers.end(), process) == writers.end())
                test.come_up(process);
        std::set<std::uint32_t> told;
        for (const auto& each : test.sent<cancel_session>())
            told.insert(each.header.writer.value);
        CHECK(told == std::set<std::uint32_t>{0, 1, 2, 3});
    }
    SUBCASE("they have heard that it needs nothing of them, and wait for their host") {
        const auto session = test.open(8, receiver_fixture::context, 2s);
        test.report(session, writers[0]);
        for (std::uint64_t process = 100; process < 104; ++process)
            if (std::find(writers.begin(), writers.end(), process) == writers.end())
                test.come_up(process);
        test.vs.tell_and_run(session.session, cancel_request{});
        std::set<std::uint32_t> told;
        for (const auto& each : test.sent<cancel_session>())
            told.insert(each.header.writer.value);
        CHECK(told.size() == 3); // all but the writer that has done its part
        CHECK_FALSE(told.contains(static_cast<std::uint32_t>(writers[0] % 100)));
    }
}

TEST_CASE("receiver: a living writer that may still write into quarantined pages is dialled until "
          "it has answered (H51)") {
    receiver_fixture test;
    const auto session = test.open(7, receiver_fixture::context, 2s);
    test.come_up(100, true);
    test.come_up(101, true);
    const auto dials = [&test] { return test.worker.received<connect_peer>().size(); };
    for (int i = 0; i < 4; ++i)
        test.go_down(100);
    CHECK(test.outcomes().size() == 1);
    CHECK(test.releases() == 0);
    test.vs.tell_and_run(test.receiver, peer_lost{{100}, make_error(errc::dial_failed, "dark")});
    const auto first = dials();
    for (int round = 1; round <= 5; ++round) {
        test.vs.advance(back_off::longest);
        CHECK(dials() == first + static_cast<std::size_t>(round));
        test.vs.tell_and_run(test.receiver,
                             peer_lost{{100}, make_error(errc::dial_failed, "still dark")});
    }
    test.vs.advance(back_off::longest);
    test.come_up(100, true);
    const auto told = test.sent<cancel_session>();
    REQUIRE_FALSE(told.empty());
    CHECK(told.back().header.writer == rank_id{0});
    for (std::uint64_t process : {100, 101}) {
        gone answer{told.back().header, side::generation, {errc::gone, "unknown here"}};
        answer.header.sender = {process};
        test.vs.tell_and_run(test.receiver, answer);
    }
    CHECK(test.releases() == 1);
    const auto all = dials();
    test.go_down(100);
    test.vs.advance(5 * back_off::longest);
    CHECK(dials() == all);
}

TEST_CASE("receiver: a rank that cannot be dialled fails the session") {
    receiver_fixture test;
    test.worker.answer<connect_peer>([](const connect_peer&) -> caf::result<peer_connected> {
        return make_error(errc::stopped, "no more links");
    });
    test.open(7);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(contains(describe(test.outcomes()[0].error), "no more links"));
}

TEST_CASE("receiver: a session that opens while its peers are connected asks at once") {
    receiver_fixture test;
    test.open(7);
    test.come_up(100);
    test.come_up(101);
    test.open(8);
    CHECK(test.sent<request_data>().size() == 4);
    CHECK(test.worker.received<connect_peer>().size() == 2);
}

TEST_CASE("receiver: a process' end counts once what it had put on the way has been drained") {
    receiver_fixture test;
    test.open(7);
    test.come_up(100);
    test.come_up(101);
    auto releases = [&] { return test.observer.received<session_released>().size(); };
    for (int i = 0; i < 4; ++i) // each is dialled again three times, and lost again
        for (std::uint64_t process : {100, 101})
            test.go_down(process);
    CHECK(test.outcomes().size() == 1);
    SUBCASE("drained") {
        test.vs.tell_and_run(test.receiver, process_gone{{100}});
        CHECK(releases() == 0);
        test.vs.tell_and_run(test.receiver, process_gone{{101}});
        CHECK(test.fabric.received<drain_fabric>().size() == 2);
        CHECK(releases() == 1);
    }
    SUBCASE("not drained: no proof") {
        test.fabric.answer<drain_fabric>([](const drain_fabric&) -> caf::result<void> {
            return make_error(errc::stopped, "the fabric is gone");
        });
        test.vs.tell_and_run(test.receiver, process_gone{{100}});
        test.vs.tell_and_run(test.receiver, process_gone{{101}});
        CHECK(releases() == 0);
    }
}

TEST_CASE("receiver: once a transfer has begun, context ranks without a part in it are asked for "
          "nothing (I5)") {
    receiver_fixture test;
    test.restart_context(100, split{4}); // two heads on four ranks: two ranks hold replicas
    auto session = test.open(7);
    CHECK(test.worker.received<connect_peer>().size() == 2);
    const auto writers = test.writers_come_up();
    test.report(session, writers[0]);
    CHECK(test.worker.received<connect_peer>().size() == 4);
    CHECK(test.sent<request_data>().size() == 2);
    for (std::uint64_t process = 100; process < 104; ++process)
        if (std::find(writers.begin(), writers.end(), process) == writers.end())
            test.come_up(process);
    auto asked = test.sent<request_data>();
    REQUIRE(asked.size() == 4);
    CHECK_FALSE(asked[3].kv);
    CHECK(asked[3].aux == aux_mode::none);
    CHECK(asked[3].target.groups.empty());
    CHECK(asked[3].target.last);
    test.report(session, writers[1]);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::kv_transferred);
}

TEST_CASE(
    "receiver: what it tells a bystander is said again over a new link, as long as the former one "
    "may have lost it") {
    receiver_fixture test;
    test.restart_context(100, split{4});
    auto session = test.open(7);
    const auto writers = test.writers_come_up();
    test.go_down(writers[1]); // the instance is asked anew by the next session; this one goes on
    test.come_up(writers[1]);
    test.report(session, writers[0]);
    test.report(session, writers[1]);
    REQUIRE(test.outcomes().size() == 1);
    std::uint64_t bystander = 100;
    while (std::find(writers.begin(), writers.end(), bystander) != writers.end())
        ++bystander;
    const auto notices = [&test, bystander] {
        std::size_t result = 0;
        for (const auto& asked : test.sent<request_data>())
            result += !asked.kv && asked.header.writer.value == bystander % 100 ? 1 : 0;
        return result;
    };
    test.come_up(bystander);
    CHECK(notices() == 1);
    const auto dials = test.worker.received<connect_peer>().size();
    test.go_down(bystander);
    CHECK(test.worker.received<connect_peer>().size() == dials + 1);
    test.come_up(bystander);
    CHECK(notices() == 2);
    test.vs.advance(limits{}.link_patience + 3 * limits{}.link_health_interval);
    test.go_down(bystander); // it was heard long after that
    CHECK(test.worker.received<connect_peer>().size() == dials + 1);
}

TEST_CASE("receiver: pages of a session that died come back when all of its writers are gone") {
    receiver_fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    REQUIRE(test.sent<request_data>().size() == 2);
    test.die(session);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::error);
    CHECK(contains(describe(test.outcomes()[0].error), "its rx_session on gen/0 died"));
    CHECK(test.sent<cancel_session>().size() == 2);

    test.report(session, 100); // proves nothing: what a dead session asked is unknown
    test.report(session, 101);
    CHECK(test.sent<gone>().empty());
    CHECK(test.releases() == 0);
    auto list = test.vs.ask_and_run<session_list>(test.receiver, list_sessions{});
    REQUIRE(list.ok());
    REQUIRE(list.value().sessions.size() == 1);
    CHECK(contains(list.value().sessions[0].waits_for, "proof that ctx/0 is gone"));
    CHECK(contains(list.value().sessions[0].waits_for, "proof that ctx/1 is gone"));

    test.vs.tell_and_run(test.receiver, process_gone{{100}});
    test.vs.tell_and_run(test.receiver, process_gone{{100}});
    CHECK(test.releases() == 0);
    test.vs.tell_and_run(test.receiver, process_gone{{101}});
    CHECK(test.releases() == 1);
    CHECK(test.fabric.received<drain_fabric>().size() == 3); // before each death counts
    CHECK(test.outcomes().size() == 1);
}

TEST_CASE(
    "receiver: the writers of a session that died are asked to forget it, also over a new link; "
    "an answer is proof") {
    receiver_fixture test;
    auto session = test.open(7);
    test.come_up(100); // rank 1 is never linked, so it knows nothing
    test.die(session);
    REQUIRE(test.sent<cancel_session>().size() == 1);
    test.go_down(100);
    test.come_up(100);
    REQUIRE(test.sent<cancel_session>().size() == 2);
    gone of_a_slice;
    of_a_slice.header = test.sent<cancel_session>()[1].header;
    of_a_slice.header.sender = {100};
    of_a_slice.header.kind = payload_kind::kv;
    test.vs.tell_and_run(test.receiver, of_a_slice);
    CHECK(test.releases() == 0);
    auto of_all = of_a_slice;
    of_all.header.kind = payload_kind::none;
    test.vs.tell_and_run(test.receiver, of_all);
    CHECK(test.releases() == 1);
}

TEST_CASE("receiver: a first dial that breaks is repeated as well (H51)") {
    receiver_fixture test;
    test.open(7);
    test.come_up(101);
    for (std::size_t dials = 2; dials < 5; ++dials) {
        CHECK(test.worker.received<connect_peer>().size() == dials);
        CHECK(test.outcomes().empty());
        test.go_down(100);
    }
    test.go_down(100);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(code_of(test.outcomes()[0].error) == errc::link_lost);
}

TEST_CASE("receiver: a session that died before it knew its writers had lent nothing") {
    receiver_fixture test;
    const std::string nobody = "ctx:2";
    test.open(7, nobody); // fails at once, and the endpoint gets a pause
    REQUIRE(test.outcomes().size() == 1);
    auto waiting = test.open(8, nobody);
    REQUIRE(test.outcomes().size() == 1);
    const auto before = test.releases();
    test.die(waiting);
    REQUIRE(test.outcomes().size() == 2);
    CHECK(contains(describe(test.outcomes()[1].error), "its rx_session on gen/0 died"));
    CHECK(test.releases() == before + 1);
    auto list = test.vs.ask_and_run<session_list>(test.receiver, list_sessions{});
    REQUIRE(list.ok());
    CHECK(list.value().sessions.empty());
    test.vs.advance(60s); // its deadline, and the retry of its endpoint
    CHECK(test.outcomes().size() == 2);
}

TEST_CASE("receiver: where only this rank's own loop writes, the pages of a session that died come "
          "back when the fabric has shut its attempt out; a writer with a mapping still needs its "
          "own proof") {
    receiver_fixture test{{}, true};
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101, true);
    test.die(session);
    REQUIRE(test.fabric.received<forbid_writes>().size() == 1);
    CHECK(test.fabric.received<forbid_writes>()[0].attempt == session.attempt);
    CHECK(test.releases() == 0);
    test.vs.tell_and_run(test.receiver, process_gone{{101}});
    CHECK(test.releases() == 1);
}

TEST_CASE("receiver: a connection that breaks under a session is dialled anew at once; the session "
          "goes on when it comes up and fails when three dials break (H51)") {
    receiver_fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    const auto dials = test.worker.received<connect_peer>().size();
    test.go_down(100);
    REQUIRE(test.worker.received<connect_peer>().size() == dials + 1);
    CHECK(test.worker.received<connect_peer>().back().peer.incarnation == incarnation{100});
    CHECK(test.outcomes().empty());
    SUBCASE("it comes up") {
        test.come_up(100);
        CHECK(test.sent<request_data>().size() == 3);
        test.report(session, 100);
        test.report(session, 101);
        CHECK(test.releases() == 1);
    }
    SUBCASE("it does not") {
        for (int i = 0; i < 3; ++i) {
            CHECK(test.outcomes().empty());
            test.go_down(100);
        }
        CHECK(test.worker.received<connect_peer>().size() == dials + 3);
        REQUIRE(test.outcomes().size() == 1);
        CHECK(test.outcomes()[0].state == session_state::error);
        CHECK(code_of(test.outcomes()[0].error) == errc::link_lost);
    }
}

TEST_CASE(
    "receiver: a broken connection that no session needs is not dialled again, nor a peer that has "
    "left or refuses") {
    receiver_fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    const auto dials = test.worker.received<connect_peer>().size();
    SUBCASE("no session") {
        test.report(session, 100);
        test.report(session, 101);
        test.go_down(100);
    }
    SUBCASE("it has left") {
        test.vs.tell_and_run(test.receiver,
                             peer_lost{{100}, make_error(errc::peer_gone, "its process is gone")});
        CHECK(test.outcomes().size() == 1);
    }
    CHECK(test.worker.received<connect_peer>().size() == dials);
}

TEST_CASE("receiver: an event of a peer reaches the sessions that need it, and no other") {
    receiver_fixture test;
    (*test.instances)["other:1"] = make_instance("other", {}, receiver_fixture::format());
    (*test.instances)["other:1"][0].incarnation = {200};
    for (std::uint64_t request = 1; request <= 30; ++request)
        test.open(request);
    test.open(31, "other:1");
    test.come_up(100);
    test.come_up(101);
    auto view = std::make_shared<peer_view>();
    view->info = (*test.instances)["other:1"][0];
    view->link = test.link.handle();
    CHECK(test.vs.disturbed_by(test.receiver, peer_ready{view}) == 1);
    CHECK(test.vs.disturbed_by(test.receiver, peer_lost{{200}, make_error(errc::peer_gone, "x")})
          == 1);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].request == rid{31});
    CHECK(test.vs.disturbed_by(test.receiver, peer_lost{{100}, make_error(errc::peer_gone, "x")})
          == 30);
    CHECK(test.outcomes().size() == 31);
}
