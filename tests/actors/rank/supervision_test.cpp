// SPDX-License-Identifier: Apache-2.0
// Actors of a rank that die: who is told what, and that nothing is taken for proof.
#include "messages/local/outcomes.hpp"
#include "tests/actors/rank/transfer_worker_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

class fixture : public worker_fixture {
public:
    /// Messages of one type that went to the peer.
    template <class Message>
    std::vector<Message> sent() {
        std::vector<Message> result;
        for (const auto& out : fabric.received<send_frame>()) {
            auto message = decode(out.frame, 1 << 20);
            REQUIRE(message);
            if (const auto* wanted = std::get_if<Message>(&*message))
                result.push_back(*wanted);
        }
        return result;
    }
    std::vector<session_finished> outcomes() { return observer.received<session_finished>(); }
    std::size_t releases() { return observer.received<session_released>().size(); }
    void finish_put(const tx_session_actor& session) {
        const auto id = fabric.received<start_put>().front().id;
        vs.tell_and_run(session, transfer_done{id, agent_result::success, 64, {}, {}, {}});
    }
};

} // namespace

TEST_CASE("supervision: a sender that died is proof of nothing: its rank says no goodbye") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto session = test.put_in_flight();
    REQUIRE(test.home.end("sender"));

    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::error);
    CHECK(contains(describe(test.outcomes()[0].error), "the sender of ctx/0 died"));
    CHECK(test.releases() == 0);
    REQUIRE(test.sent<refused>().size() == 1); // the link ends and tells the peer why
    CHECK(contains(test.sent<refused>()[0].reason.text, "the sender of ctx/0 died"));
    auto next = test.open(8);
    CHECK(next.code() == errc::handler_failed);
    CHECK(test.statistics().actors_died == 1);

    SUBCASE("its sessions wait for their own transfers and give back what those have read") {
        test.finish_put(session);
        CHECK(test.releases() == 1);
    }
    SUBCASE("a stop ends at once and names what is kept") {}
    auto stopped = test.stop();
    REQUIRE(stopped.ok());
    REQUIRE_FALSE(stopped.value().unproven.empty());
    CHECK(contains(stopped.value().unproven[0], "the sender of ctx/0 died"));
    CHECK(test.io_stops() == 0);
    CHECK(test.sent<termination>().empty());
    CHECK(test.sent<gone>().empty());
}

TEST_CASE("supervision: a receiver that died ends the rank's sessions, without a word of proof") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto session = test.put_in_flight();
    REQUIRE(test.home.end("receiver"));
    REQUIRE(test.outcomes().size() == 1);
    CHECK(contains(describe(test.outcomes()[0].error), "the receiver of ctx/0 died"));
    test.finish_put(session);
    CHECK(test.releases() == 1);
    auto stopped = test.stop();
    REQUIRE(stopped.ok());
    CHECK_FALSE(stopped.value().unproven.empty());
    CHECK(test.sent<termination>().empty());
}

TEST_CASE("supervision: a table that dies while the rank stops takes the goodbye with it") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    test.put_in_flight();
    auto stopped = test.stop();
    CHECK(stopped.pending());
    REQUIRE(test.home.end("sender"));
    REQUIRE(stopped.ok());
    CHECK_FALSE(stopped.value().unproven.empty());
    CHECK(test.sent<termination>().empty());
}

TEST_CASE("supervision: when a link dies, both sides are told what it would have told them") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto session = test.put_in_flight();
    REQUIRE(test.home.end("peer_link"));
    REQUIRE(test.outcomes().size() == 1);
    CHECK(contains(describe(test.outcomes()[0].error), "the link to incarnation 2 died"));
    REQUIRE(test.sent<refused>().size() == 1);
    CHECK(contains(test.sent<refused>()[0].reason.text, "its link died"));
    CHECK(test.fabric.received<close_endpoint>().size() == 1);
    CHECK(test.host_link.received<host_link_close>().size() == 1);
    CHECK(test.statistics().actors_died == 1);
    CHECK(test.statistics().links_live == 0);

    test.arrives(test.introduction()); // the peer dials again
    CHECK(test.statistics().links_live == 1);
    CHECK(test.open(8).ok());
    test.finish_put(session);
    CHECK(test.releases() == 1);
    CHECK(test.fabric.received<open_endpoint>().size() == 2);
    test.vs.track(test.fabric.received<open_endpoint>()[1].owner);
}

TEST_CASE("supervision: a former link that dies says nothing about the one in its place (H35)") {
    fixture test;
    test.peer.machine = "a";
    test.peer.host_link_name = "gen-socket";
    REQUIRE(test.register_memory().ok());
    test.arrives(test.introduction());
    auto former = test.vs.track(test.fabric.received<open_endpoint>()[0].owner);
    auto ears = test.host_link.received<host_link_expect>();
    REQUIRE(ears.size() == 1);
    test.vs.tell_and_run(ears[0].owner, host_link_up{{2}, {}, true});
    test.confirm(former);
    test.vs.tell_and_run(former, endpoint_failed{{5}, {2}, make_error(errc::link_lost, "reset")});
    CHECK(test.statistics().links_live == 0); // it lives on for the news of the peer's death

    test.fabric.answer<open_endpoint>([](const open_endpoint&) { return endpoint_opened{{6}}; });
    auto again = test.introduction(2);
    test.arrives(again);
    REQUIRE(test.fabric.received<open_endpoint>().size() == 2);
    auto present = test.vs.track(test.fabric.received<open_endpoint>()[1].owner);
    ears = test.host_link.received<host_link_expect>();
    REQUIRE(ears.size() == 2);
    test.vs.tell_and_run(ears[1].owner,
                         host_link_down{{2}, make_error(errc::duplicate, "another owner")});
    test.confirm(present);
    REQUIRE(test.statistics().links_live == 1);
    const auto session = test.ask_over(present);

    caf::anon_send_exit(former, caf::exit_reason::unknown);
    test.vs.run();
    CHECK(test.statistics().actors_died == 1);
    CHECK(test.statistics().links_live == 1);
    CHECK(test.outcomes().empty());
    test.finish_put(session);
    REQUIRE(test.outcomes().size() == 1);
    CHECK_FALSE(test.outcomes()[0].error);
}

TEST_CASE("supervision: a session that died is counted as quarantined, and a stop names it") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    test.put_in_flight();
    REQUIRE(test.home.end("tx_session"));
    const auto counted = test.statistics();
    CHECK(counted.sessions_live == 1);
    CHECK(counted.sessions_quarantined == 1);
    CHECK(counted.actors_died == 1);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.open(8).ok()); // the rank still works
    auto stopped = test.stop();
    REQUIRE(stopped.ok());
    REQUIRE_FALSE(stopped.value().unproven.empty());
    CHECK(contains(stopped.value().unproven[0], "rid 7: its tx_session on ctx/0 died"));
    CHECK(test.sent<termination>().empty());
    CHECK(test.io_stops() == 0);
}

TEST_CASE("supervision: a rank that serves nobody refuses who dials it, at once and by name") {
    fixture test;
    std::string why;
    auto code = errc::handler_failed;
    SUBCASE("its sender died") {
        REQUIRE(test.register_memory().ok());
        test.put_in_flight();
        REQUIRE(test.home.end("sender"));
        why = "the sender of ctx/0 died";
    }
    SUBCASE("its receiver died") {
        REQUIRE(test.register_memory().ok());
        test.put_in_flight();
        REQUIRE(test.home.end("receiver"));
        why = "the receiver of ctx/0 died";
    }
    SUBCASE("its device is lost, while the peer's former link is up") {
        REQUIRE(test.register_memory().ok());
        test.put_in_flight();
        test.vs.tell_and_run(test.worker, device_lost{0, make_error(errc::cuda_failed, "Xid 79")});
        why = "Xid 79";
        code = errc::cuda_failed;
    }
    SUBCASE("it stops, and waits for pages on loan") {
        REQUIRE(test.register_memory().ok());
        test.put_in_flight();
        CHECK(test.stop().pending());
        why = "ctx/0 is stopping";
        code = errc::stopped;
    }
    SUBCASE("it has no pools") {
        why = "ctx/0 has no pools";
        code = errc::missing_layout;
    }
    test.arrives(test.introduction(2));
    const auto said = test.sent<refused>();
    REQUIRE_FALSE(said.empty());
    CHECK(said.back().dial == dial_id{2});
    CHECK(said.back().reason.code == code);
    CHECK(contains(said.back().reason.text, why));
    CHECK(test.sent<rank_registered>().size() == (code == errc::missing_layout ? 0 : 1));
    CHECK(test.statistics().links_live == 0);
}
