// SPDX-License-Identifier: Apache-2.0
// A sending session that serves: what it copies, to whom it reports, when it succeeds.
#include "actors/decisions/links/message_order.hpp"
#include "tests/actors/context/tx_session_fixture.hpp"

#include <algorithm>
#include <cstring>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// Source slots 1, 2 against target slots 4, 5 of the same size.
bool arrived(tx_fixture& test) {
    return std::memcmp(test.source.data() + 128, test.target(0).data() + 4 * 128, 256) == 0;
}

} // namespace

TEST_CASE("tx_session: a small mapped slice is copied on the spot and reported once") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    CHECK(arrived(test));
    CHECK(test.copies().empty());
    auto reports = test.reports(0);
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].result == agent_result::success);
    CHECK(reports[0].bytes == 256);
    CHECK(reports[0].route == "mapped");
    CHECK(reports[0].way == route::mapped);
    CHECK(reports[0].header.attempt == attempt{11});
    CHECK(reports[0].header.writer == test.self.rank);
    CHECK(reports[0].header.piece == send_piece{{0}, true});
    CHECK(reports[0].header.kind == payload_kind::kv);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.pieces().size() == 1);
    CHECK(test.releases() == 1);
    CHECK(test.owner.received<session_retired>().size() == 1);
}

TEST_CASE("tx_session: a slice sent after the bind is served at once") {
    tx_fixture test;
    test.bind(0);
    CHECK(test.reports(0).empty());
    test.tell(send_slice{tx_fixture::slice()});
    CHECK(arrived(test));
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("tx_session: a big mapped slice goes to copy_io, with addresses of this process") {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    REQUIRE(test.copies().size() == 1);
    const auto job = test.copies()[0].job;
    CHECK(job.target_pools[0].slot0_address == tx_fixture::address(test.target(0)));
    CHECK(job.source_pools[0].slot0_address == tx_fixture::address(test.source));
    CHECK(test.reports(0).empty());
    CHECK(test.outcomes().empty());
    test.done(test.copies()[0].id);
    CHECK(test.reports(0).size() == 1);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.releases() == 1);
}

TEST_CASE(
    "tx_session: without a mapping a slice goes through the fabric, over the peer's endpoint") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    REQUIRE(test.puts().size() == 1);
    CHECK(test.puts()[0].endpoint == endpoint_id{50});
    CHECK(test.puts()[0].job.plan->bytes == 256);
    test.done(test.puts()[0].id);
    REQUIRE(test.reports(0).size() == 1);
    CHECK(test.reports(0)[0].route == "direct: another machine");
}

TEST_CASE(
    "tx_session: messages of a put say their sums where both sides can, and the report of one "
    "that was damaged names the receiver's block") {
    for (const bool can : {false, true}) {
        CAPTURE(can);
        tx_fixture test{1, aux_mode::none, memory::unmapped};
        test.tell(send_slice{tx_fixture::slice()});
        auto view = std::make_shared<peer_view>(*test.view(0));
        view->terms.capabilities = can ? capability::put_sums : 0;
        test.tell(bind_receiver{test.ask(0), view});
        REQUIRE(test.puts().size() == 1);
        CHECK(test.puts()[0].sums == can);
        test.damaged(test.puts()[0].id, {tx_fixture::address(test.target(0)) + 5 * 128 + 9, 64});
        REQUIRE(test.reports(0).size() == 1);
        const auto report = test.reports(0)[0];
        CHECK(report.result == agent_result::failed);
        CHECK(report.error.code == errc::digest_mismatch);
        CHECK(contains(report.error.text,
                       "bytes that came are not those that left: first in block 1 "
                       "of layer group 0 (slot 5 of pool 0)"));
    }
}

TEST_CASE("tx_session: the report of a put travels with its bytes, and nobody says it again; a put "
          "that fails is reported by the link") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    test.tell(send_slice{tx_fixture::slice()});
    auto asked = test.ask(0);
    asked.digest = true;
    test.bind(std::move(asked));
    REQUIRE(test.puts().size() == 1);
    const auto along = decode(test.puts()[0].report, limits{}.message_bytes_max);
    REQUIRE(along);
    const auto& report = std::get<kv_agent_result>(*along);
    CHECK(report.result == agent_result::success);
    CHECK(report.bytes == 256);
    CHECK(report.digest);
    CHECK(report.route == "direct: another machine");
    CHECK(report.way == route::direct);
    CHECK(report.header.sender == test.self.incarnation);
    CHECK(report.header.receiver == test.process_of(0));
    CHECK(report.header.attempt == attempt{11});
    CHECK(report.header.writer == test.self.rank);
    CHECK(report.header.piece == send_piece{{0}, true});
    CHECK(report.header.sequence == beside_order);
    SUBCASE("it succeeds") {
        test.done(test.puts()[0].id);
        CHECK(test.sent_to<kv_agent_result>(0).empty());
        CHECK(test.outcome() == session_state::kv_transferred);
    }
    SUBCASE("it fails") {
        test.done(test.puts()[0].id, agent_result::failed);
        REQUIRE(test.sent_to<kv_agent_result>(0).size() == 1);
        CHECK(test.sent_to<kv_agent_result>(0)[0].result == agent_result::failed);
    }
}

TEST_CASE("tx_session: a report that cannot be known beforehand comes when the bytes are there: by "
          "RMA, with whole layers, too long for the peer, or of a release before it") {
    auto test = std::make_unique<tx_fixture>(1, aux_mode::none, memory::unmapped);
    auto asked = test->ask(0);
    auto view = std::make_shared<peer_view>(*test->view(0));
    SUBCASE("by RMA") {
        view->by_rma = true;
    }
    SUBCASE("whole layers") {
        asked.tell_layers = true;
    }
    SUBCASE("too long") {
        view->info.accepts.message_bytes_max = 40;
    }
    SUBCASE("a release before it") {
        view->terms.protocol = 6;
    }
    test->tell(send_slice{tx_fixture::slice()});
    test->tell(bind_receiver{std::move(asked), std::move(view)});
    REQUIRE(test->puts().size() == 1);
    CHECK(test->puts()[0].report.empty());
    test->done(test->puts()[0].id);
    CHECK(test->sent_to<kv_agent_result>(0).size() == 1);
}

TEST_CASE("tx_session: bytes are as urgent as their receiver asks, and known by its attempt") {
    tx_fixture test{1, aux_mode::none, memory::unmapped};
    auto asked = test.ask(0);
    asked.urgency = priority::low;
    const auto attempt = asked.header.attempt.value;
    const auto peer = asked.header.sender.value;
    test.tell(send_slice{tx_fixture::slice()});
    test.tell(bind_receiver{std::move(asked), test.view(0)});
    REQUIRE(test.puts().size() == 1);
    CHECK(test.puts()[0].of == flow{priority::low, peer, attempt});
}

TEST_CASE("tx_session: a transfer's second end is ignored (I1)") {
    tx_fixture test{2, aux_mode::none, memory::unmapped};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    auto id = test.puts().at(0).id;
    test.done(id);
    test.done(id, agent_result::failed);
    test.done({999});
    CHECK(test.reports(0).size() == 1);
    CHECK(test.outcomes().empty());
}

TEST_CASE("tx_session: success only when every announced receiver has been served") {
    tx_fixture test{2};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    CHECK(test.reports(0).size() == 1);
    CHECK(test.pieces().empty()); // rank 1 was announced and has not asked yet
    CHECK(test.outcomes().empty());
    auto status = test.vs.ask_and_run<session_status>(test.session, query_status{});
    REQUIRE(status.ok());
    CHECK(status.value().waits_for == "request_data of rank 1");
    test.bind(1);
    CHECK(test.reports(1).size() == 1);
    CHECK(test.reports(0).size() == 1);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.outcomes()[0].peers.size() == 2);
}

TEST_CASE("tx_session: a slice that speaks for tokens beyond its prompt is refused by name") {
    tx_fixture test;
    auto beyond = tx_fixture::slice();
    beyond.tokens.end = beyond.prompt_tokens + 1;
    test.tell(send_slice{beyond});
    CHECK(test.outcome() == session_state::error);
    CHECK(code_of(test.outcomes()[0].error) == errc::invalid_argument);
    CHECK(contains(text_of(test.outcomes()[0].error),
                   "rid 7: send slice 0: tokens begin at 0 and end at "));
    REQUIRE(test.pieces().size() == 1);
    CHECK(code_of(test.pieces()[0].error) == errc::invalid_argument);
}

TEST_CASE("tx_session: a receiver that does not fit is refused with both sides' values") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    std::vector<std::string> values;
    SUBCASE("another layout") {
        test.peer(0).pages->groups[0].views[0].layout.element_type = "fp8_e4m3";
        values = {"rid 7 from gen/0", "fp8_e4m3", "bf16"};
    }
    SUBCASE("another model, by what the hosts say") {
        test.peer(0).fingerprint = "llama rev 2";
        values = {"rid 7 from gen/0", "llama rev 1", "llama rev 2"};
    }
    test.bind(0);
    const auto told = test.sent_to<refused>(0);
    REQUIRE(told.size() == 1);
    CHECK(told[0].reason.code == errc::layout_mismatch);
    CHECK(test.outcome() == session_state::error);
    CHECK(code_of(test.outcomes()[0].error) == errc::layout_mismatch);
    for (const auto& value : values) {
        CHECK_MESSAGE(contains(told[0].reason.text, value), told[0].reason.text);
        CHECK(contains(test.outcome_text(), value));
    }
    CHECK(test.releases() == 1);
}

TEST_CASE("tx_session: a replayed request changes nothing (H23)") {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.bind(0);
    CHECK(test.copies().size() == 1);
    CHECK(test.sent_to<gone>(0).empty());
    test.done(test.copies()[0].id);
    CHECK(test.reports(0).size() == 1);
}

TEST_CASE(
    "tx_session: another attempt of a bound rank is answered gone and disturbs nobody (H28)") {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};
    test.tell(send_slice{tx_fixture::slice()});
    test.bind(0);
    test.bind(test.ask(0, {99}));
    auto answers = test.sent_to<gone>(0);
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].header.attempt == attempt{99});
    CHECK(answers[0].to == side::generation);
    CHECK(contains(answers[0].reason.text, "bound to another attempt"));
    CHECK(test.copies().size() == 1);
    test.done(test.copies()[0].id);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("tx_session: each piece is reported once, pieces before and after the bind alike (H22)") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::half(0)});
    test.bind(0);
    REQUIRE(test.reports(0).size() == 1);
    CHECK(test.reports(0)[0].header.piece == send_piece{{0}, false});
    CHECK(test.pieces().size() == 1);
    CHECK(test.outcomes().empty());
    test.tell(send_slice{tx_fixture::half(1)});
    REQUIRE(test.reports(0).size() == 2);
    CHECK(test.reports(0)[1].header.piece == send_piece{{1}, true});
    CHECK(arrived(test));
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("tx_session: pieces end in any order; the session with the last of them") {
    tx_fixture test{1, aux_mode::none, memory::mapped, no_inline_copies()};
    test.bind(0);
    test.tell(send_slice{tx_fixture::half(0)});
    test.tell(send_slice{tx_fixture::half(1)});
    REQUIRE(test.copies().size() == 2);
    test.done(test.copies()[1].id);
    CHECK(test.outcomes().empty());
    CHECK(test.pieces().size() == 1);
    test.done(test.copies()[0].id);
    CHECK(test.outcome() == session_state::kv_transferred);
    CHECK(test.reports(0).size() == 2);
}

TEST_CASE("tx_session: each receive slice gets reports of its own (H15)") {
    tx_fixture test;
    test.tell(send_slice{tx_fixture::slice()});
    auto first = test.ask(0, {11}, 0);
    first.target.last = false;
    test.bind(first);
    CHECK(test.outcomes().empty()); // the receiver will ask for more
    test.bind(test.ask(0, {11}, 1));
    auto reports = test.reports(0);
    REQUIRE(reports.size() == 2);
    CHECK(reports[0].header.receive_slice == slice_index{0});
    CHECK(reports[1].header.receive_slice == slice_index{1});
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE(
    "tx_session: the aux record goes to those who asked for it, before or after the bind, once") {
    tx_fixture test{2, aux_mode::required};
    auto wants_aux = test.ask(0);
    wants_aux.aux = aux_mode::required;
    test.bind(wants_aux);
    aux_record record;
    record.first_tokens = {42};
    test.tell(send_aux{record});
    CHECK(test.sent_to<aux_agent_result>(0).size() == 1);
    auto also = test.ask(1);
    also.aux = aux_mode::required;
    test.bind(also);
    test.tell(send_slice{tx_fixture::slice()});
    for (std::uint32_t rank : {0, 1}) {
        auto sent = test.sent_to<aux_agent_result>(rank);
        REQUIRE(sent.size() == 1);
        CHECK(sent[0].record == record);
        CHECK(sent[0].header.kind == payload_kind::aux);
    }
    CHECK(test.outcome() == session_state::fully_transferred);
}

TEST_CASE("tx_session: a receiver that has its aux from elsewhere gets none") {
    tx_fixture test{1, aux_mode::required};
    test.bind(0); // asks for KV only
    test.tell(send_slice{tx_fixture::slice()});
    CHECK(test.outcomes().empty()); // the host's own aux record has no outcome yet
    test.tell(send_aux{});
    CHECK(test.sent_to<aux_agent_result>(0).empty());
    CHECK(test.outcome() == session_state::fully_transferred);
    CHECK(test.pieces().size() == 2);
    const auto outcomes = test.outcomes();
    CHECK(std::none_of(outcomes.begin(), outcomes.end(),
                       [](const auto& x) { return bool{x.error}; }));
}

TEST_CASE("tx_session: an aux record that is too large fails that call; a right one may follow") {
    limits bounds;
    bounds.aux_bytes_max = 7;
    tx_fixture test{1, aux_mode::required, memory::mapped, bounds};
    aux_record record;
    record.first_tokens = {1, 2};
    test.tell(send_aux{record});
    REQUIRE(test.pieces().size() == 1);
    CHECK(code_of(test.pieces()[0].error) == errc::limit_exceeded);
    CHECK(contains(text_of(test.pieces()[0].error), "8 bytes is longer than aux_bytes_max = 7"));
    CHECK(test.outcomes().empty());
    record.first_tokens = {1};
    test.tell(send_aux{record});
    test.tell(send_aux{record});
    REQUIRE(test.pieces().size() == 2);
    CHECK(code_of(test.pieces()[1].error) == errc::duplicate);
}

TEST_CASE("tx_session: aux on a session opened without it is refused by name") {
    tx_fixture test;
    test.tell(send_aux{});
    REQUIRE(test.pieces().size() == 1);
    CHECK(code_of(test.pieces()[0].error) == errc::invalid_argument);
    CHECK(test.outcomes().empty());
}

TEST_CASE(
    "tx_session: a mapping serves only when the receiver allows it; otherwise the bytes are put "
    "for its attempt, and the report says why") {
    tx_fixture test;
    auto asked = test.ask(0);
    asked.may_map = false;
    test.bind(asked);
    test.tell(send_slice{tx_fixture::slice()});
    CHECK(test.copies().empty());
    REQUIRE(test.puts().size() == 1);
    CHECK(test.puts()[0].attempt == asked.header.attempt);
    test.done(test.puts()[0].id);
    REQUIRE(test.reports(0).size() == 1);
    CHECK(test.reports(0)[0].route == "direct: the receiver has no same-host link to this rank");
}
