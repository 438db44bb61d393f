// SPDX-License-Identifier: Apache-2.0
// What is left of sessions that have ended, died or are in doubt, and what a stop makes of it.
#include "tests/actors/context/sender_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct mourner_state {
    static inline constexpr const char* name = "mourner";

    mourner_state(observer_actor::pointer self, int* deaths) {
        self->set_down_handler([deaths](const caf::down_msg&) { ++*deaths; });
    }
    observer_actor::behavior_type make_behavior() {
        return {[](const piece_finished&) {}, [](const session_ready&) {},
                [](const layers_arrived&) {}, [](const session_finished&) {},
                [](const session_released&) {}};
    }
};

} // namespace

TEST_CASE("sender: an observer that wants to hears that its session has died") {
    sender_fixture test;
    for (const auto wants : {true, false}) {
        int deaths = 0;
        open_tx terms{{wants ? 7u : 8u}, aux_mode::none, {}, 60s};
        terms.observer = test.vs.track(
            spawn_at<observer_actor, mourner_state>(test.vs.system(), placement{}, &deaths));
        terms.tell_death = wants;
        test.die(test.vs.ask_and_run<tx_opened>(test.sender, std::move(terms)));
        CHECK(deaths == (wants ? 1 : 0));
    }
}

TEST_CASE("sender: later requests of a cancelled rid are answered with the cause, until the lease "
          "ends (H29)") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session,
                         cancel_request{make_error(errc::cancelled, "the host cancelled")});
    test.request(sender_fixture::ask(7));
    REQUIRE(test.answers().size() == 1);
    CHECK(test.answers()[0].reason == wire_error{errc::cancelled, "the host cancelled"});
    SUBCASE("forgotten after the lease") {
        test.vs.advance(test.bounds.early_request_lease);
        test.request(sender_fixture::ask(7));
        CHECK(test.answers().size() == 1);
    }
    SUBCASE("a receiver that asks again with another attempt waits for a new session at once") {
        test.request(sender_fixture::ask(7, {12}));
        test.request(sender_fixture::ask(7)); // the former attempt is still answered
        CHECK(test.answers().size() == 2);
        auto again = test.open(7);
        REQUIRE(again.ok());
        test.vs.tell_and_run(again.value().session, send_slice{sender_fixture::slice()});
        CHECK(test.puts().size() == 1);
        CHECK(test.answers().size() == 2);
    }
    SUBCASE("that one's lease ends like any") {
        test.request(sender_fixture::ask(7, {12}));
        test.vs.advance(test.bounds.early_request_lease);
        CHECK(test.answers().size() == 2);
        test.request(sender_fixture::ask(7)); // the sender has forgotten the rid
        CHECK(test.answers().size() == 2);
    }
    SUBCASE("giving up a new attempt does not shorten the memory, nor prolong it for ever") {
        test.request(sender_fixture::ask(7, {12}));
        test.cancel(7, {12});
        CHECK(test.answers().size() == 2);
        test.request(sender_fixture::ask(7));
        CHECK(test.answers().size() == 3);
        test.vs.advance(test.bounds.early_request_lease);
        test.request(sender_fixture::ask(7));
        CHECK(test.answers().size() == 3);
    }
    SUBCASE("forgotten when the host opens the rid anew") {
        CHECK(test.open(7).ok());
        test.request(sender_fixture::ask(7, {12}));
        CHECK(test.answers().size() == 1);
    }
}

TEST_CASE("sender: a request that crosses the end of its session is answered all the same (H59)") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    // Both messages are in mailboxes before either is handled.
    caf::anon_send(opened.value().session,
                   cancel_request{make_error(errc::cancelled, "the host cancelled")});
    caf::anon_send(test.sender, sender_fixture::ask(7));
    test.vs.run();
    REQUIRE(test.answers().size() == 1);
    CHECK(test.answers()[0].reason.code == errc::cancelled);
}

TEST_CASE("sender: a stop refuses, cancels, and answers when the last session is gone") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    test.request(sender_fixture::ask(7));
    test.request(sender_fixture::ask(8)); // waits for its session
    REQUIRE(test.puts().size() == 1);
    auto stopped = test.vs.ask_and_run<void>(
        test.sender, cancel_request{make_error(errc::stopped, "ctx/0 is stopping")});
    CHECK(stopped.pending()); // a put is in flight
    CHECK(test.answers().size() == 1);
    CHECK(test.open(9).code() == errc::stopped);
    test.request(sender_fixture::ask(9));
    CHECK(test.answers().size() == 2);
    test.vs.tell_and_run(opened.value().session,
                         transfer_done{test.puts()[0].id,
                                       agent_result::failed,
                                       0,
                                       make_error(errc::transfer_failed, "cut"),
                                       {},
                                       {}});
    CHECK(stopped.ok());
    CHECK(test.vs.ask_and_run<void>(test.sender, cancel_request{make_error(errc::stopped, "again")})
              .ok());
}

TEST_CASE("sender: a copy into a peer's memory that is in doubt lets no stop end in order (I2)") {
    limits bounds;
    bounds.inline_copy_bytes_max = 0;
    sender_fixture test{bounds};
    std::vector<std::byte> memory(4096);
    test.come_up(1, {{0, memory.data(), memory.size(), nullptr}});
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    test.request(sender_fixture::ask(7));
    const auto copies = test.copy.received<start_copy>();
    REQUIRE(copies.size() == 1);
    auto result = agent_result::in_doubt;
    SUBCASE("a launch that nobody knows the end of") {}
    SUBCASE("one that has failed lets it end") {
        result = agent_result::failed;
    }
    test.vs.tell_and_run(
        opened.value().session,
        transfer_done{copies[0].id, result, 0, make_error(errc::cuda_failed, "lost"), {}, {}});
    CHECK(test.observer.received<session_released>().size() == 1); // the source is read no more
    auto stopped = test.vs.ask_and_run<void>(
        test.sender, cancel_request{make_error(errc::stopped, "ctx/0 is stopping")});
    REQUIRE_FALSE(stopped.pending());
    CHECK(stopped.ok() == (result == agent_result::failed));
    if (!stopped.ok())
        CHECK(contains(describe(stopped.error()), "rid 7 on ctx/0: bytes for a peer's memory"));
}

TEST_CASE(
    "sender: a receiver that a dead session may have served is answered in doubt, never gone") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    test.request(sender_fixture::ask(7));
    REQUIRE(test.puts().size() == 1);
    test.die(opened);

    const auto told = test.observer.received<session_finished>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].state == session_state::error);
    CHECK(contains(describe(told[0].error), "rid 7: its tx_session on ctx/0 died"));
    CHECK(test.sent_to<cancel_session>(1).size() == 1); // so that the receiver does not wait
    REQUIRE(test.sent_to<kv_agent_result>(1).size() == 1);
    CHECK(test.sent_to<kv_agent_result>(1)[0].result == agent_result::in_doubt);

    test.cancel(7);                       // the receiver gives up
    test.request(sender_fixture::ask(7)); // a replay
    test.vs.advance(500s);                // longer than every deadline and lease
    CHECK(test.answers().empty());
    CHECK(test.observer.received<session_released>().empty());
    CHECK(test.observer.received<session_finished>().size() == 1);

    test.request(sender_fixture::ask(7, {12})); // nothing can be in flight for this attempt
    test.cancel(7, {13});
    REQUIRE(test.answers().size() == 2);
    CHECK(test.answers()[0].header.attempt == attempt{12});
    CHECK(test.answers()[1].header.attempt == attempt{13});
    CHECK(test.open(7).code() == errc::duplicate);
    CHECK(test.open(8).ok());
}

TEST_CASE("sender: a session that died is listed with what its pages wait for, and ends no stop") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.request(sender_fixture::ask(7));
    test.die(opened);
    auto list = test.vs.ask_and_run<session_list>(test.sender, list_sessions{});
    REQUIRE(list.ok());
    REQUIRE(list.value().sessions.size() == 1);
    const auto& status = list.value().sessions[0];
    CHECK(status.state == session_state::error);
    CHECK(contains(status.waits_for, "the end of the process"));
    CHECK(status.peers.at(rank_id{0}) == exposure::in_doubt);
    auto stopped = test.vs.ask_and_run<void>(
        test.sender, cancel_request{make_error(errc::stopped, "ctx/0 is stopping")});
    REQUIRE(stopped.failed());
    CHECK(contains(text_of(stopped.error()), "rid 7"));
}

TEST_CASE("sender: a session that dies after its outcome changes none, but leaves doubt (I3)") {
    sender_fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
    test.request(sender_fixture::ask(7));
    test.vs.tell_and_run(opened.value().session, cancel_request{make_error(errc::cancelled, "no")});
    REQUIRE(test.sent_to<cancel_session>(1).size() == 1);
    test.die(opened);
    const auto told = test.observer.received<session_finished>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].state == session_state::cancelled);
    CHECK(test.sent_to<cancel_session>(1).size() == 1);
    REQUIRE(test.sent_to<kv_agent_result>(1).size() == 1);
    CHECK(test.sent_to<kv_agent_result>(1)[0].result == agent_result::in_doubt);
    CHECK(test.observer.received<session_released>().empty());
}

TEST_CASE(
    "sender: an attempt whose transfer is in doubt is never answered `gone`, which would be taken "
    "for proof, however late and over whichever link it asks (H51)") {
    sender_fixture test;
    auto session = test.open(7);
    test.request(sender_fixture::ask(7));
    test.vs.tell_and_run(session.value().session, send_slice{sender_fixture::slice()});
    REQUIRE(test.puts().size() == 1);
    transfer_done done{test.puts()[0].id, agent_result::in_doubt, 0, {}, {}, {}};
    done.error = make_error(errc::transfer_in_doubt, "the link broke");
    test.vs.tell_and_run(session.value().session, done);
    test.go_down(1);
    test.come_up(1);
    const auto before = test.sent_to<kv_agent_result>(1).size();
    test.cancel(7);
    CHECK(test.answers().empty());
    const auto reports = test.sent_to<kv_agent_result>(1);
    REQUIRE(reports.size() == before + 1);
    CHECK(reports.back().result == agent_result::in_doubt);
    CHECK(reports.back().header.attempt == attempt{11});
    test.cancel(7, {12}); // never served: nothing of it moves
    CHECK(test.answers().size() == 1);
}

TEST_CASE(
    "sender: who asks again for what was served hears so at once, its reports were lost with its "
    "link; another attempt of the rid begins anew") {
    sender_fixture test;
    auto session = test.open(7);
    test.request(sender_fixture::ask(7));
    test.vs.tell_and_run(session.value().session, send_slice{sender_fixture::slice()});
    REQUIRE(test.puts().size() == 1);
    test.vs.tell_and_run(session.value().session,
                         transfer_done{test.puts()[0].id, agent_result::success, 32, {}, {}, {}});
    test.go_down(1);
    test.come_up(1);
    test.request(sender_fixture::ask(7));
    REQUIRE(test.answers().size() == 1);
    CHECK(contains(test.answers()[0].reason.text, "its reports went with the link"));
    test.request(sender_fixture::ask(7, {12}));
    CHECK(test.answers().size() == 1); // it waits for its session
    test.open(7);
    CHECK(test.puts().size() == 1);
}

TEST_CASE("sender: of a session that has ended nothing stays in memory, however it ended") {
    sender_fixture test;
    auto opened = test.vs.ask_and_run<tx_opened>(
        test.sender, open_tx{{7}, aux_mode::none, test.observer.handle(), 60s});
    REQUIRE(opened.ok());
    const watched_actor session{opened.value().session};
    SUBCASE("with success") {
        test.request(sender_fixture::ask(7));
        test.vs.tell_and_run(opened.value().session, send_slice{sender_fixture::slice()});
        REQUIRE(test.puts().size() == 1);
        test.vs.tell_and_run(
            opened.value().session,
            transfer_done{test.puts()[0].id, agent_result::success, 64, {}, {}, {}});
        test.fabric.forget();
    }
    SUBCASE("cancelled by its host") {
        test.vs.tell_and_run(opened.value().session, cancel_request{});
    }
    SUBCASE("cancelled by its receiver") {
        test.request(sender_fixture::ask(7));
        test.cancel(7);
    }
    REQUIRE(test.observer.received<session_released>().size() == 1);
    opened = {};
    test.vs.run();
    CHECK(session.references() == 0);
}

TEST_CASE("sender: its sessions end with it") {
    sender_fixture test;
    REQUIRE(test.open(7).ok());
    REQUIRE(test.open(8).ok());
    caf::anon_send_exit(test.sender, caf::exit_reason::unknown);
    test.vs.run();
    const auto outcomes = test.observer.received<session_finished>();
    REQUIRE(outcomes.size() == 2);
    for (const auto& outcome : outcomes)
        CHECK(contains(describe(outcome.error), "the sender of ctx/0 died"));
    CHECK(test.observer.received<session_released>().size() == 2);
}
