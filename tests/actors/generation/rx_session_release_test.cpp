// SPDX-License-Identifier: Apache-2.0
// Release of a receiving session's pages: outcomes prove nothing, only evidence does.
#include "tests/actors/generation/rx_session_fixture.hpp"

#include <random>

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE(
    "rx_session: one failed writer does not release pages while a sibling still writes (H52)") {
    rx_fixture test;
    test.start(3);
    test.report(0);
    test.report(1, {{0}, true}, agent_result::failed);
    CHECK(test.outcome() == session_state::error); // immediately
    CHECK(contains(test.outcome_text(), "rid 7 from context rank 1: wire cut"));
    CHECK(test.releases() == 0);
    CHECK(test.sent_to<cancel_session>(0).empty()); // writer 0 has already ended
    CHECK(test.sent_to<cancel_session>(2).size() == 1);
    test.report(2, {{0}, true},
                agent_result::success); // too late for the outcome, but still a proof
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: the failed writer itself is exposed until its last piece has reported") {
    rx_fixture test;
    test.start(1);
    test.report(0, {{0}, false}, agent_result::failed);
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 0);
    test.report(0, {{1}, false});
    CHECK(test.releases() == 0);
    test.report(0, {{2}, true}, agent_result::failed);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: IN_DOUBT keeps the loan until the writer's process is gone (H51, H54)") {
    rx_fixture test;
    test.start(1);
    test.report(0, {{0}, true}, agent_result::in_doubt);
    CHECK(test.outcome() == session_state::error);
    test.peer_is_lost(0);
    test.tell(gone{
        rx_fixture::header(0, payload_kind::none), side::generation, {errc::gone, "never heard"}});
    test.vs.advance(std::chrono::hours{24});
    CHECK(test.releases() == 0);
    auto status = test.vs.ask_and_run<session_status>(test.session, query_status{});
    REQUIRE(status.ok());
    CHECK(status.value().peers.at(rank_id{0}) == exposure::in_doubt);
    CHECK(contains(status.value().waits_for, "proof that context rank 0 writes no more"));
    test.process_is_gone(0);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: a lost peer ends the outcome and proves nothing; its process' end does") {
    rx_fixture test;
    test.start(2);
    test.report(1);
    test.peer_is_lost(0);
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "context rank 0: no route"));
    CHECK(test.releases() == 0);
    test.process_is_gone(1); // another session's writer
    CHECK(test.releases() == 0);
    test.process_is_gone(0);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: the loss of a writer that has nothing left to do changes nothing") {
    rx_fixture test;
    test.start(2);
    test.report(0);
    test.peer_is_lost(0);
    CHECK(test.outcomes().empty());
    test.report(1);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("rx_session: the deadline ends the outcome and releases nothing") {
    rx_fixture test;
    test.start(1);
    test.tell(deadline_tick{});
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 0);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
    test.report(0, {{0}, true}, agent_result::failed);
    CHECK(test.releases() == 1);
    CHECK(test.outcomes().size() == 1);
}

TEST_CASE("rx_session: a cancel before any writer was asked releases at once") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0)});
    test.receive();
    test.cancel();
    CHECK(test.outcome() == session_state::cancelled);
    CHECK(test.releases() == 1);
    test.ready(0); // a link that comes up later gets no request
    CHECK(test.sent_to<request_data>(0).empty());
}

TEST_CASE("rx_session: a cancel after the writers were asked is told to them and releases by "
          "evidence only") {
    rx_fixture test;
    test.start(2);
    test.report(0);
    test.cancel();
    CHECK(test.outcome() == session_state::cancelled);
    CHECK(test.releases() == 0);
    auto told = test.sent_to<cancel_session>(1);
    REQUIRE(told.size() == 1);
    CHECK(told[0].to == side::context);
    CHECK(told[0].header.attempt == rx_fixture::attempt);
    CHECK(told[0].reason.code == errc::cancelled);
    test.report(1);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: cancel is idempotent from both ends (I9)") {
    rx_fixture test;
    test.start(1);
    test.cancel();
    test.cancel();
    test.tell(cancel_session{
        rx_fixture::header(0), side::generation, {errc::cancelled, "the sender cancelled"}});
    CHECK(test.outcome() == session_state::cancelled);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
    CHECK(test.releases() == 0);
}

TEST_CASE("rx_session: a writer's cancel ends the outcome; its closing reports release") {
    rx_fixture test;
    test.start(1);
    test.tell(cancel_session{
        rx_fixture::header(0), side::generation, {errc::cancelled, "the sender cancelled"}});
    CHECK(test.outcome() == session_state::cancelled);
    CHECK(test.releases() == 0);
    test.report(0, {{0}, true}, agent_result::failed);
    CHECK(test.releases() == 1);
}

TEST_CASE(
    "rx_session: gone and refused end the session and count as proof for the slice they answer") {
    rx_fixture test;
    test.start(1);
    SUBCASE("gone") {
        test.tell(
            gone{rx_fixture::header(0), side::generation, {errc::gone, "not opened in time"}});
    }
    SUBCASE("refused") {
        test.tell(refused{rx_fixture::header(0),
                          side::generation,
                          {errc::layout_mismatch, "not opened in time"}});
    }
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "not opened in time"));
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: an answer about one slice proves nothing about another; the answer to a "
          "cancel does") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0)});
    test.ready(0);
    test.receive(false);
    test.receive(true);
    auto about_second = rx_fixture::header(0, payload_kind::kv, {}, 1);
    test.tell(refused{about_second, side::generation, {errc::limit_exceeded, "too many wait"}});
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 0); // the first slice may be on its way
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
    SUBCASE("its own report") {
        test.report(0, {{0}, true}, agent_result::failed, 0);
    }
    SUBCASE("the answer to the cancel, which nothing follows") {
        auto about_all = test.sent_to<cancel_session>(0).at(0).header;
        about_all.sender = rx_fixture::process_of(0);
        test.tell(gone{about_all, side::generation, {errc::gone, "never heard of it"}});
    }
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: a slice lent after the end is answered and never published") {
    rx_fixture test;
    test.start(1);
    test.cancel();
    test.receive();
    REQUIRE(test.pieces().size() == 2);
    CHECK(code_of(test.pieces()[1].error) == errc::cancelled);
    CHECK(test.sent_to<request_data>(0).size() == 1);
}

TEST_CASE("rx_session: over random endings never released while a writer is unresolved (I2, I3)") {
    for (std::uint32_t seed = 0; seed < 300; ++seed) {
        std::mt19937 random{seed};
        rx_fixture test;
        test.start(2);
        std::vector<bool> quiet(2), doubt(2), dead(2);
        for (int step = 0; step < 8; ++step) {
            auto rank = random() % 2;
            switch (random() % 6) {
            case 0:
                test.report(rank);
                quiet[rank] = true;
                break;
            case 1:
                test.report(rank, {{0}, true}, agent_result::in_doubt);
                doubt[rank] = doubt[rank] || !quiet[rank];
                break;
            case 2:
                test.process_is_gone(rank);
                dead[rank] = true;
                break;
            case 3:
                test.peer_is_lost(rank);
                break;
            case 4:
                test.tell(deadline_tick{});
                break;
            default:
                test.cancel();
            }
            auto resolved = [&](std::size_t x) { return dead[x] || (quiet[x] && !doubt[x]); };
            if (!(resolved(0) && resolved(1)))
                REQUIRE_MESSAGE(test.releases() == 0, "seed " << seed << ", step " << step);
            else if (!test.outcomes().empty())
                REQUIRE_MESSAGE(test.releases() == 1, "seed " << seed << ", step " << step);
            REQUIRE(test.outcomes().size() <= 1);
        }
    }
}

TEST_CASE("rx_session: a failure is told to writers that have done their part: they may wait for "
          "siblings (H59)") {
    rx_fixture test;
    auto with_sibling = rx_fixture::writer(0);
    with_sibling.receivers.push_back({10});
    test.bind({with_sibling, rx_fixture::writer(1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    test.report(0);
    test.report(1, {{0}, true}, agent_result::failed);
    CHECK(test.outcome() == session_state::error);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
}

namespace {

/// Two writers on a message lane, asked for one slice; rank 0 has no same-host link to the
/// receiver.
struct message_lane : rx_fixture {
    explicit message_lane(bool by_message = true) : rx_fixture(aux_mode::none, {}, {}, by_message) {
        bind({writer(0), writer(1)});
        ready(0, {}, false);
        ready(1);
        receive();
    }
};

} // namespace

TEST_CASE("rx_session: the fabric lets an attempt in before its first request leaves, and shuts it "
          "out when the session ends, however it ends") {
    for (const bool fails : {false, true}) {
        message_lane test;
        REQUIRE(test.fabric.received<allow_writes>().size() == 1);
        CHECK(test.fabric.received<allow_writes>()[0].attempt == rx_fixture::attempt);
        CHECK(test.fabric.received<allow_writes>()[0].urgency == priority::normal);
        CHECK_FALSE(test.sent_to<request_data>(0).at(0).may_map);
        CHECK(test.sent_to<request_data>(1).at(0).may_map);
        CHECK(test.fabric.received<forbid_writes>().empty());
        if (fails)
            test.cancel();
        test.report(0);
        test.report(1);
        CHECK(test.fabric.received<forbid_writes>().size() == 1);
        CHECK(test.releases() == 1);
    }
}

TEST_CASE("rx_session: without a same-host link pages are released as soon as the fabric shuts the "
          "attempt out, and not before; a lost writer is not waited for (H51, H54)") {
    message_lane test;
    test.fabric.answer<forbid_writes>([](const forbid_writes&) -> caf::result<void> {
        return make_error(errc::stopped, "no fabric any more");
    });
    test.report(1);
    test.peer_is_lost(0);
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 0); // no answer, no proof
    message_lane other;
    other.report(1);
    other.peer_is_lost(0);
    CHECK(other.outcome() == session_state::error);
    CHECK(other.releases() == 1);
}

TEST_CASE(
    "rx_session: shutting the attempt out proves nothing of a writer with a mapping, nor on a "
    "fabric whose hardware writes by itself") {
    message_lane mapped;
    mapped.cancel();
    CHECK(mapped.releases() == 0); // writer 1 may still copy
    mapped.process_is_gone(1);
    CHECK(mapped.releases() == 1);
    message_lane by_hardware{false};
    by_hardware.cancel();
    by_hardware.process_is_gone(1);
    CHECK(by_hardware.fabric.received<forbid_writes>().size() == 1);
    CHECK(by_hardware.releases() == 0);
    by_hardware.process_is_gone(0);
    CHECK(by_hardware.releases() == 1);
}
