// SPDX-License-Identifier: Apache-2.0
// Outcome of a receiving session: which ranks it asks, what it counts, how it ends.
#include "tests/actors/generation/rx_session_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("rx_session: each writer is asked exactly once per slice, when its link is ready") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1)});
    test.receive();
    test.ready(0);
    CHECK(test.sent_to<request_data>(0).size() == 1);
    CHECK(test.sent_to<request_data>(1).empty());
    test.ready(1);
    test.ready(0); // every session is told again when any link comes up
    CHECK(test.sent_to<request_data>(0).size() == 1);
    auto asked = test.sent_to<request_data>(1);
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].kv);
    CHECK(asked[0].aux == aux_mode::none);
    CHECK(asked[0].header.request == rx_fixture::request);
    CHECK(asked[0].header.attempt == rx_fixture::attempt);
    CHECK(asked[0].header.writer == rank_id{1});
    CHECK(asked[0].receivers == std::vector<rank_id>{{9}});
    CHECK(asked[0].target.groups.size() == 1);
}

TEST_CASE(
    "rx_session: a slice lent after the links came up is asked for at once, under its own number") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0)});
    test.ready(0);
    test.receive(false);
    test.receive(true);
    auto asked = test.sent_to<request_data>(0);
    REQUIRE(asked.size() == 2);
    CHECK(asked[0].header.receive_slice == slice_index{0});
    CHECK_FALSE(asked[0].target.last);
    CHECK(asked[1].header.receive_slice == slice_index{1});
    CHECK(asked[1].target.last);
}

TEST_CASE(
    "rx_session: a writer that is asked for the aux record only is never told where pages are") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0, true, false), rx_fixture::writer(1, false, true)});
    test.ready(0);
    test.ready(1);
    test.receive();
    CHECK(test.sent_to<request_data>(0).at(0).aux == aux_mode::none);
    auto asked = test.sent_to<request_data>(1);
    REQUIRE(asked.size() == 1);
    CHECK_FALSE(asked[0].kv);
    CHECK(asked[0].aux == aux_mode::required);
    CHECK(asked[0].target.groups.empty());
    auto status = test.vs.ask_and_run<session_status>(test.session, query_status{});
    REQUIRE(status.ok());
    CHECK(status.value().peers == std::map<rank_id, exposure>{{rank_id{0}, exposure::exposed}});
}

TEST_CASE("rx_session: succeeds once, when every writer has reported, and is released then") {
    rx_fixture test;
    test.start(2);
    test.report(0);
    CHECK(test.outcomes().empty());
    CHECK(test.pieces().empty());
    test.report(1);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.releases() == 1);
    REQUIRE(test.pieces().size() == 1);
    CHECK_FALSE(test.pieces()[0].error);
    auto peers = test.outcomes()[0].peers;
    REQUIRE(peers.size() == 2);
    CHECK(peers[1].bytes == 100);
    CHECK(peers[1].route.text == "as it likes");
    CHECK(peers[1].route.way == route::mapped);
    CHECK(test.owner.received<session_retired>().size() == 1);
    CHECK(test.sent_to<cancel_session>(0).empty());
}

TEST_CASE("rx_session: a piece's end is not the session's; aux is needed as well (H17)") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0, true, true)});
    test.ready(0);
    test.receive();
    test.report(0);
    CHECK(test.pieces().size() == 1);
    CHECK(test.outcomes().empty());
    CHECK(test.releases() == 0);
    test.report_aux(0);
    CHECK(test.outcome() == session_state::fully_transferred);
    CHECK(test.outcomes()[0].aux.first_tokens == std::vector<std::int32_t>{42});
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: an aux record that comes before any KV report counts (H25)") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1, false, true)});
    test.ready(0);
    test.ready(1);
    test.receive();
    test.report_aux(1);
    test.report_aux(1, 43); // a duplicate changes nothing (H21)
    CHECK(test.outcomes().empty());
    test.report(0);
    CHECK(test.outcome() == session_state::fully_transferred);
    CHECK(test.outcomes()[0].aux.first_tokens == std::vector<std::int32_t>{42});
}

TEST_CASE("rx_session: an aux record from a rank that was not elected is ignored") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0, true, true), rx_fixture::writer(1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    test.report(0);
    test.report(1);
    test.report_aux(1);
    CHECK(test.outcomes().empty());
}

TEST_CASE("rx_session: an aux record longer than aux_bytes_max fails the session by name") {
    limits bounds;
    bounds.aux_bytes_max = 3;
    rx_fixture test{aux_mode::required, bounds};
    test.bind({rx_fixture::writer(0, true, true)});
    test.ready(0);
    test.receive();
    test.report_aux(0);
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "aux_bytes_max = 3"));
}

TEST_CASE("rx_session: pieces of one writer count in every order, duplicates once (H21, H22)") {
    rx_fixture test;
    test.start(1);
    test.report(0, {{2}, true});
    test.report(0, {{2}, true});
    test.report(0, {{0}, false});
    CHECK(test.outcomes().empty());
    test.report(0, {{1}, false});
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.outcomes()[0].peers[0].bytes == 300); // the duplicate was not added
}

TEST_CASE("rx_session: contradictory pieces change nothing") {
    rx_fixture test;
    test.start(1);
    test.report(0, {{1}, true});
    test.report(0, {{5}, false});
    test.report(0, {{0}, true});
    CHECK(test.outcomes().empty());
    test.report(0, {{0}, false});
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE(
    "rx_session: reports of foreign ranks, in another's name or about unasked slices are ignored") {
    rx_fixture test;
    test.start(2);
    test.report(5); // rank 5 is in no cohort
    auto forged = rx_fixture::header(0);
    forged.writer = {1};
    test.tell(kv_agent_result{forged, agent_result::success, 1, 1, "mapped", {}});
    test.report(1, {{0}, true}, agent_result::success, 3); // nobody asked for slice 3
    CHECK(test.outcomes().empty());
    test.report(0);
    CHECK(test.outcomes().empty());
    test.report(1);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.outcomes()[0].peers[0].bytes == 100);
}

TEST_CASE(
    "rx_session: two slices resolve two promises, each when its own reports are complete (H15)") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0)});
    test.ready(0);
    test.receive(false);
    test.receive(true);
    test.report(0, {{0}, true}, agent_result::success, 1);
    REQUIRE(test.pieces().size() == 1);
    CHECK(test.pieces()[0].index == slice_index{1});
    CHECK(test.outcomes().empty());
    test.report(0, {{0}, true}, agent_result::success, 0);
    CHECK(test.pieces().size() == 2);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("rx_session: a slice behind the last one ends the session by name; no further writer is "
          "asked") {
    rx_fixture test;
    test.start(1);
    test.receive();
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "receive slice 1 comes after the last one"));
    CHECK(test.pieces().size() == 2);
    CHECK(test.sent_to<request_data>(0).size() == 1);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
}

TEST_CASE("rx_session: an instance that cannot be mapped fails the session with its reason") {
    rx_fixture test;
    test.receive();
    test.tell(bind_writers{{}, make_error(errc::layout_mismatch, "head_dim 128 and 64")});
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "head_dim 128 and 64"));
    CHECK(test.pieces().size() == 1);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: the outcome lists what the context does not have and nobody wrote") {
    rx_fixture test;
    test.tell(bind_writers{{rx_fixture::writer(0)}, {}, {4, 5}, {"indexer_k"}});
    test.ready(0);
    test.receive();
    test.report(0);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.outcomes()[0].layers_skipped == std::vector<std::uint32_t>{4, 5});
    CHECK(test.outcomes()[0].roles_skipped == std::vector<std::string>{"indexer_k"});
}

TEST_CASE("rx_session: the deadline names what is waited for") {
    rx_fixture test;
    auto waited_for = [&] {
        test.tell(deadline_tick{});
        return test.outcome_text();
    };
    SUBCASE("the instance") {
        CHECK(
            contains(waited_for(), "rid 7 on gen/9 waited for the context instance's rank infos"));
    }
    SUBCASE("the host") {
        test.bind({rx_fixture::writer(0)});
        CHECK(contains(waited_for(), "the host's last receive(slice)"));
    }
    SUBCASE("a link") {
        test.bind({rx_fixture::writer(0), rx_fixture::writer(4)});
        test.ready(0);
        test.receive();
        CHECK(contains(waited_for(), "reports of context rank 0, a link to context rank 4"));
    }
    CHECK(test.outcome() == session_state::error);
    CHECK(code_of(test.outcomes()[0].error) == errc::deadline_exceeded);
}

TEST_CASE("rx_session: a failure without a reason is a failure all the same") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0, true, true)});
    test.ready(0);
    test.receive();
    SUBCASE("of KV") {
        test.tell(kv_agent_result{rx_fixture::header(0), agent_result::failed, 0, 0, "", {}});
    }
    SUBCASE("of aux") {
        test.tell(aux_agent_result{
            rx_fixture::header(0, payload_kind::aux), agent_result::failed, {}, {}});
    }
    SUBCASE("of the session") {
        test.tell(cancel_session{rx_fixture::header(0), side::generation, {}});
    }
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "the peer gave no reason"));
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
}

// -- which DP group serves ----------------------------------------------------------------------

TEST_CASE(
    "rx_session: the first report selects the DP group; the others are told 'not selected' (H61)") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0, true, false, 0), rx_fixture::writer(1, true, false, 1),
               rx_fixture::writer(2, true, false, 1)});
    for (auto rank : {0u, 1u, 2u})
        test.ready(rank);
    test.receive();
    test.report(1);
    CHECK(test.outcomes().empty());
    auto told = test.sent_to<cancel_session>(0);
    REQUIRE(told.size() == 1);
    CHECK(told[0].reason.code == errc::not_selected);
    CHECK(test.sent_to<cancel_session>(2).empty());
    auto selected = test.owner.received<session_transferring>();
    REQUIRE(selected.size() == 1);
    CHECK(selected[0].context_dp_rank == 1);
    test.report(2);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.releases() == 0); // the group that was not selected knows where the pages are
    gone answer;
    answer.header = rx_fixture::header(0, payload_kind::none);
    test.tell(answer);
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: a DP group that cannot serve is no failure while another one may") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0, true, false, 0), rx_fixture::writer(1, true, false, 1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    gone answer;
    answer.header = rx_fixture::header(0);
    answer.reason = {errc::gone, "never opened"};
    test.tell(answer);
    CHECK(test.outcomes().empty());
    SUBCASE("the other one serves") {
        test.report(1);
        CHECK(test.outcome() == session_state::kv_transferred);
    }
    SUBCASE("the other one cannot either") {
        test.peer_is_lost(1);
        CHECK(test.outcome() == session_state::error);
        CHECK(contains(test.outcome_text(), "no route"));
    }
}

TEST_CASE("rx_session: nothing counts as arrived before it is known which DP group serves") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0, true, true, 0), rx_fixture::writer(1, true, true, 1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    test.report_aux(1);
    test.report_aux(0, 13); // its group was not selected
    test.report(0);
    CHECK(test.outcomes().empty());
    test.report(1);
    CHECK(test.outcome() == session_state::fully_transferred);
    CHECK(test.outcomes()[0].aux.first_tokens == std::vector<std::int32_t>{42});
}

TEST_CASE("rx_session: a renewal asks again for what has no report yet, and for nothing else") {
    rx_fixture test;
    test.start(2);
    test.report(0);
    test.tell(renew_requests{});
    CHECK(test.sent_to<request_data>(0).size() == 1);
    auto asked = test.sent_to<request_data>(1);
    REQUIRE(asked.size() == 2);
    CHECK_FALSE(asked[0].renewal);
    CHECK(asked[1].renewal);
    CHECK(asked[1].target.groups.size() == asked[0].target.groups.size());
    test.report(1);
    test.tell(renew_requests{});
    CHECK(test.sent_to<request_data>(1).size() == 2);
}

TEST_CASE("rx_session: what it waits for is a list that can be read") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1)});
    test.receive();
    auto status = test.vs.ask_and_run<session_status>(test.session, query_status{});
    REQUIRE(status.ok());
    CHECK(status.value().waits_for == "a link to context rank 0, a link to context rank 1");
}

TEST_CASE("rx_session: a renewal that crosses the last report is answered gone; what was served "
          "stays served") {
    rx_fixture test;
    test.start(2);
    test.tell(renew_requests{});
    test.report(0);
    test.tell(gone{rx_fixture::header(0), side::generation, {errc::gone, "is not waiting"}});
    CHECK(test.outcomes().empty());
    test.report(1);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.releases() == 1);
}

TEST_CASE(
    "rx_session: a DP group whose session fails is the one that ran the request: nobody waits "
    "for the others") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1, true, false, 1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    wire_error why{errc::invalid_argument, "opened without aux"};
    SUBCASE("it cancels") {
        test.tell(cancel_session{rx_fixture::header(0, payload_kind::none), side::generation, why});
    }
    SUBCASE("it refuses") {
        test.tell(refused{rx_fixture::header(0), side::generation, why});
    }
    CHECK(test.outcome() == session_state::error);
    CHECK(contains(test.outcome_text(), "opened without aux"));
    CHECK(test.sent_to<cancel_session>(1).size() == 1);
}

TEST_CASE("rx_session: a slice that speaks for tokens beyond its prompt is refused, and nothing is "
          "asked for") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0)});
    test.ready(0);
    test.tell(receive_slice{{{0, 100}, 40, {{0, {1, 2, 3}}}, true}});
    CHECK(test.outcome() == session_state::error);
    CHECK(
        contains(test.outcome_text(), "rid 7: receive slice 0: tokens begin at 0 and end at 100"));
    CHECK(test.sent_to<request_data>(0).empty());
    CHECK(test.releases() == 1);
}

TEST_CASE("rx_session: a DP group without room for the request does not speak for the others") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1, true, false, 1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    wire_error why{errc::limit_exceeded, "early_requests_max"};
    test.tell(refused{rx_fixture::header(0), side::generation, why});
    CHECK(test.outcomes().empty());
    test.report(1);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("rx_session: a writer that answers after the end is not cancelled a second time (I9)") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1, true, false, 1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    test.cancel();
    test.tell(gone{rx_fixture::header(0, payload_kind::none), side::generation, {errc::gone, ""}});
    test.report(1);
    CHECK(test.sent_to<cancel_session>(0).size() == 1);
    CHECK(test.sent_to<cancel_session>(1).size() == 1);
    CHECK(test.releases() == 1);
}
