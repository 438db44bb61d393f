// SPDX-License-Identifier: Apache-2.0
// How a sending session ends: who is told, when, and when the source pages are free.
#include "tests/actors/context/tx_session_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// Two copies are under way, to the halves of one receiver's prompt.
struct flying {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};

    flying() {
        test.bind(0);
        test.tell(send_slice{tx_fixture::half(0)});
        test.tell(send_slice{tx_fixture::half(1)});
        REQUIRE(test.copies().size() == 2);
    }

    /// Ends both transfers. Before that nothing may be released or reported as ended.
    void land() {
        CHECK(test.releases() == 0);
        CHECK(test.reports(0).empty());
        CHECK(test.copy.received<cancel_transfer>().size() == 2);
        test.done(test.copies()[0].id, agent_result::failed);
        CHECK(test.releases() == 0);
        test.done(test.copies()[1].id);
        CHECK(test.releases() == 1);
        CHECK(test.owner.received<session_retired>().size() == 1);
    }
};

std::vector<std::uint32_t> pieces_of(const std::vector<kv_agent_result>& reports) {
    std::vector<std::uint32_t> result;
    for (const auto& report : reports)
        result.push_back(report.header.piece.index.value);
    return result;
}

} // namespace

TEST_CASE("tx_session: a plan that cannot be made is reported to the peer at once, with the cause "
          "(H44, H59)") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    auto asked = test.ask(0);
    SUBCASE("a slot outside the peer's pool") {
        asked.target = tx_fixture::slice(1000);
        test.bind(asked);
        CHECK(code_of(test.outcomes().at(0).error) == errc::plan_invalid);
    }
    SUBCASE("a slice that has not the shape of the page table") {
        asked.target.groups.clear();
        test.bind(asked);
        CHECK(code_of(test.outcomes().at(0).error) == errc::invalid_argument);
    }
    auto reports = test.reports(0);
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].result == agent_result::failed);
    CHECK(reports[0].header.piece == send_piece{{0}, true});
    CHECK(contains(reports[0].error.text, "rid 7 to gen/0"));
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 1);
}

TEST_CASE(
    "tx_session: a request that contradicts the layouts is refused at once, with both values") {
    tx_fixture test;
    auto asked = test.ask(0);
    SUBCASE("KV is not wanted where it should be") {
        asked.kv = false;
    }
    SUBCASE("aux is wanted from a session without") {
        asked.aux = aux_mode::required;
    }
    SUBCASE("more blocks than the limit") {
        asked.target.groups[0].slots.resize(limits{}.blocks_per_slice_max + 1);
    }
    SUBCASE("the peer has no page table (H18)") {
        test.peer(0).pages.reset();
    }
    test.bind(asked);
    auto answers = test.sent_to<refused>(0);
    REQUIRE(answers.size() == 1);
    CHECK(contains(answers[0].reason.text, "rid 7 from gen/0"));
    CHECK(answers[0].header.attempt == attempt{11});
    CHECK(test.reports(0).empty()); // one terminal answer, not two
    CHECK(test.outcome() == session_state::error);
}

TEST_CASE("tx_session: a route that does not exist is reported like any failure") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.done(test.puts().at(0).id, agent_result::failed);
    REQUIRE(test.reports(0).size() == 1);
    CHECK(test.reports(0)[0].result == agent_result::failed);
    CHECK(test.reports(0)[0].error.code == errc::transfer_failed);
    CHECK(contains(test.reports(0)[0].error.text, "rid 7"));
    CHECK(contains(test.reports(0)[0].error.text, "wire cut"));
    CHECK(test.outcome() == session_state::error);
}

TEST_CASE("tx_session: doubt is reported as doubt") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.done(test.puts().at(0).id, agent_result::in_doubt);
    REQUIRE(test.reports(0).size() == 1);
    CHECK(test.reports(0)[0].result == agent_result::in_doubt);
    CHECK(test.reports(0)[0].by_messages); // the receiver can shut them out
    CHECK(test.releases() == 1);           // the operation does not read this side's pages any more
}

TEST_CASE("tx_session: doubt about a copy into mapped memory is not one about messages") {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.done(test.copies().at(0).id, agent_result::in_doubt);
    REQUIRE(test.reports(0).size() == 1);
    CHECK(test.reports(0)[0].result == agent_result::in_doubt);
    CHECK_FALSE(test.reports(0)[0].by_messages);
}

TEST_CASE("tx_session: the host's cancel stops transfers, tells the peer, and releases after the "
          "last has ended") {
    flying it;
    it.test.cancel();
    CHECK(it.test.outcome() == session_state::cancelled);
    auto told = it.test.sent_to<cancel_session>(0);
    REQUIRE(told.size() == 1);
    CHECK(told[0].to == side::generation);
    it.land();
    CHECK(pieces_of(it.test.reports(0)) == std::vector<std::uint32_t>{0, 1});
    CHECK(it.test.reports(0)[1].result == agent_result::success); // it was faster than the cancel
    it.test.cancel();                                             // idempotent (I9)
    CHECK(it.test.outcomes().size() == 1);
    CHECK(it.test.releases() == 1);
}

TEST_CASE("tx_session: the receiver's cancel does the same, and is idempotent (I9)") {
    flying it;
    it.test.unbind(0);
    it.test.unbind(0);
    CHECK(it.test.outcome() == session_state::cancelled);
    CHECK(contains(it.test.outcome_text(), "the receiver cancelled"));
    it.land();
    CHECK(it.test.outcomes().size() == 1);
}

TEST_CASE("tx_session: the deadline does the same and names what was waited for") {
    flying it;
    it.test.tell(deadline_tick{});
    CHECK(it.test.outcome() == session_state::error);
    CHECK(contains(it.test.outcome_text(),
                   "deadline_exceeded: rid 7 on ctx/0 waited for 2 transfers to rank 0"));
    it.land();
}

TEST_CASE("tx_session: when no piece was the last, a closing report says that no more come") {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};
    test.bind(0);
    test.tell(send_slice{tx_fixture::half(0)});
    test.cancel();
    CHECK(test.reports(0).empty());
    test.done(test.copies().at(0).id);
    auto reports = test.reports(0);
    REQUIRE(reports.size() == 2);
    CHECK(reports[0].header.piece == send_piece{{0}, false});
    CHECK(reports[1].header.piece == send_piece{{1}, true});
    CHECK(reports[1].result == agent_result::failed);
    CHECK(reports[1].error.code == errc::cancelled);
    CHECK(test.releases() == 1);
}

TEST_CASE("tx_session: one receiver's failure ends the others too, each with one terminal report") {
    tx_fixture test{2, aux_mode::none, memory::mapped, no_inline_copies()};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.bind(1);
    REQUIRE(test.copies().size() == 2);
    test.done(test.copies()[0].id, agent_result::failed);
    CHECK(test.outcome() == session_state::error);
    CHECK(test.sent_to<cancel_session>(1).size() == 1);
    CHECK(test.reports(1).empty());
    CHECK(test.releases() == 0);
    test.done(test.copies()[1].id, agent_result::failed);
    CHECK(test.reports(0).size() == 1);
    CHECK(test.reports(1).size() == 1);
    CHECK(test.releases() == 1);
}

TEST_CASE(
    "tx_session: a lost peer ends the session; its pages wait for this rank's transfers only") {
    flying it;
    it.test.tell(peer_lost{it.test.process_of(0), make_error(errc::link_lost, "no route")});
    CHECK(it.test.outcome() == session_state::error);
    CHECK(contains(it.test.outcome_text(), "rid 7 to gen/0: no route"));
    it.land();
    CHECK(it.test.reports(0).empty()); // the receiver is gone
}

TEST_CASE(
    "tx_session: the loss of a receiver that has everything, or of a stranger, changes nothing") {
    tx_fixture test{2};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.tell(peer_lost{test.process_of(0), make_error(errc::link_lost, "no route")});
    test.tell(peer_lost{{31337}, make_error(errc::link_lost, "no route")});
    CHECK(test.outcomes().empty());
    test.bind(1);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("tx_session: the loss of a receiver that would have asked for more ends the session") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    auto first = test.ask(0);
    first.target.last = false;
    test.bind(first);
    CHECK(test.reports(0).size() == 1);
    test.tell(peer_lost{test.process_of(0), make_error(errc::link_lost, "no route")});
    CHECK(test.outcome() == session_state::error);
    CHECK(test.releases() == 1);
}

TEST_CASE("tx_session: a receiver that has forgotten the attempt ends the session") {
    flying it;
    gone message{it.test.ask(0).header, side::context, {errc::gone, "never heard of it"}};
    message.header.attempt = {12345};
    it.test.tell(message);
    CHECK(it.test.outcomes().empty()); // another attempt's answer
    message.header.attempt = {11};
    it.test.tell(message);
    CHECK(it.test.outcome() == session_state::error);
    it.land();
}

TEST_CASE("tx_session: a send after the last one is refused and ends the session by name") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    test.tell(send_slice{tx_fixture::slice()});
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "send slice 1 comes after the last one"));
    CHECK(test.pieces().size() == 2);
}

TEST_CASE("tx_session: a receiver that binds after the end is answered with its cause") {
    flying it; // keeps the session alive
    it.test.cancel();
    SUBCASE("another attempt: gone, with nothing of it in flight") {
        it.test.bind(it.test.ask(0, {99}));
        REQUIRE(it.test.sent_to<gone>(0).size() == 1);
    }
    SUBCASE("a further slice of the bound attempt: a report, for gone would prove too much") {
        it.test.bind(it.test.ask(0, {11}, 1));
        CHECK(it.test.sent_to<gone>(0).empty());
        REQUIRE(it.test.reports(0).size() == 1);
        CHECK(it.test.reports(0)[0].header.receive_slice == slice_index{1});
        CHECK(it.test.reports(0)[0].header.piece == send_piece{{0}, true});
        CHECK(it.test.reports(0)[0].error.code == errc::cancelled);
    }
    CHECK(it.test.copies().size() == 2);
}

TEST_CASE(
    "tx_session: requests that cross its end are answered until its owner has heard of it (H59)") {
    tx_fixture test;
    test.cancel();
    CHECK(test.releases() == 1);
    test.bind(0);
    REQUIRE(test.sent_to<gone>(0).size() == 1);
    CHECK(test.sent_to<gone>(0)[0].reason.code == errc::cancelled);
    test.unbind(0);
    CHECK(test.sent_to<gone>(0).size() == 2);
    test.tell(deadline_tick{}); // now the owner drops it
    CHECK(test.vs.ask_and_run<session_status>(test.session, query_status{}).failed());
    CHECK(test.outcomes().size() == 1);
}

TEST_CASE("tx_session: a cancel of an attempt that it does not know is answered gone and changes "
          "nothing") {
    flying it;
    it.test.unbind(0, {99});
    REQUIRE(it.test.sent_to<gone>(0).size() == 1);
    CHECK(it.test.sent_to<gone>(0)[0].header.kind == payload_kind::none); // for the whole attempt
    CHECK(it.test.outcomes().empty());
}

TEST_CASE("tx_session: a process that is gone proves nothing about this rank's own transfers") {
    flying it;
    it.test.cancel();
    it.test.tell(process_gone{it.test.process_of(0)});
    it.land();
}

TEST_CASE(
    "tx_session: a failure is told to receivers that have got all from here: they may wait for "
    "siblings (H59)") {
    tx_fixture test{2};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    REQUIRE(test.reports(0).size() == 1);
    test.cancel();
    CHECK(test.outcome() == session_state::cancelled);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
}

TEST_CASE(
    "tx_session: a renewal of what is forgotten is answered gone and moves no byte: the pages "
    "may be lent to somebody else (H60)") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    auto late = test.ask(0);
    late.renewal = true;
    const auto before = test.target(0);
    test.bind(late);
    CHECK(test.reports(0).empty());
    CHECK(test.target(0) == before);
    REQUIRE(test.sent_to<gone>(0).size() == 1);
    CHECK(test.sent_to<gone>(0)[0].header.kind == payload_kind::kv); // for this slice only
    CHECK(test.outcomes().empty());
    test.bind(test.ask(0, {12})); // a request of a new attempt is served
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE(
    "tx_session: a receiver that was given nothing yet may lose its link and ask again over a new "
    "one, for the same attempt") {
    tx_fixture test{2};
    test.bind(0);
    test.bind(1);
    test.tell(peer_lost{test.process_of(0), make_error(errc::link_lost, "no route")});
    CHECK(test.outcomes().empty());
    test.tell(send_slice{tx_fixture::slice()});
    CHECK(test.reports(1).size() == 1);
    CHECK(test.reports(0).empty());
    CHECK(test.outcomes().empty());
    test.bind(0);
    CHECK(test.reports(0).size() == 1);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE(
    "tx_session: a receiver that might have asked again is not waited for once its process is "
    "gone; one that did ask again is served") {
    tx_fixture test;
    test.bind(0);
    test.tell(peer_lost{test.process_of(0), make_error(errc::link_lost, "no route")});
    SUBCASE("it has not asked again") {
        test.tell(process_gone{test.process_of(0)});
        CHECK(test.outcome() == session_state::error);
        CHECK(contains(test.outcome_text(), "rank 0 had asked, and its process is gone"));
    }
    SUBCASE("it has") {
        test.bind(0);
        test.tell(process_gone{test.process_of(0)});
        CHECK(test.outcomes().empty());
    }
}

TEST_CASE(
    "tx_session: a receiver whose rank gives the link up does not ask again, at once or later") {
    tx_fixture test;
    test.bind(0);
    const auto died = make_error(errc::handler_failed, "the receiver of gen/0 died");
    SUBCASE("at once") {
        test.tell(peer_lost{test.process_of(0), died});
    }
    SUBCASE("behind the end of its connection") {
        test.tell(peer_lost{test.process_of(0), make_error(errc::link_lost, "reset")});
        CHECK(test.outcomes().empty());
        test.tell(peer_lost{test.process_of(0), died});
    }
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "the receiver of gen/0 died"));
}

TEST_CASE(
    "tx_session: over a new link a receiver gets every report once more, also of what ended while "
    "it had none (H51)") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    test.bind(0);
    test.tell(send_slice{tx_fixture::half(0)});
    test.tell(send_slice{tx_fixture::half(1)});
    REQUIRE(test.puts().size() == 2);
    test.done(test.puts()[0].id);
    CHECK(test.reports(0).size() == 1);
    test.tell(peer_lost{test.process_of(0), make_error(errc::link_lost, "no route")});
    CHECK(test.outcome() == session_state::error); // it had begun
    SUBCASE("it cancels") {
        test.unbind(0);
    }
    SUBCASE("it asks again") {
        test.bind(0);
    }
    CHECK(test.reports(0).size() == 2); // the first one again
    test.done(test.puts()[1].id, agent_result::in_doubt);
    REQUIRE(test.reports(0).size() == 3);
    CHECK(test.reports(0)[2].result == agent_result::in_doubt);
    CHECK(test.releases() == 1);
    REQUIRE(test.owner.received<session_retired>().size() == 1);
    CHECK(test.owner.received<session_retired>()[0].in_doubt);
}

TEST_CASE("tx_session: a receiver hears that its first piece is begun before the bytes move, once; "
          "few bytes that bring their report, or a copy on the spot, need no such word") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    auto asked = test.ask(0);
    asked.tell_layers = true; // no report travels with its bytes
    test.bind(std::move(asked));
    test.tell(send_slice{tx_fixture::half(0)});
    test.tell(send_slice{tx_fixture::half(1)});
    REQUIRE(test.sent_to<transfer_started>(0).size() == 1);
    CHECK(test.sent_to<transfer_started>(0)[0].header.attempt == test.ask(0).header.attempt);
    tx_fixture few{1, aux_mode::none, memory::unmapped};
    few.bind(0);
    few.tell(send_slice{tx_fixture::slice()});
    CHECK(few.puts().size() == 1);
    CHECK(few.sent_to<transfer_started>(0).empty());
    tx_fixture at_once;
    at_once.bind(0);
    at_once.tell(send_slice{tx_fixture::slice()});
    CHECK(at_once.reports(0).size() == 1);
    CHECK(at_once.sent_to<transfer_started>(0).empty());
}
