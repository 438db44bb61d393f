// SPDX-License-Identifier: Apache-2.0
// The rank-info server: it answers with all ranks or none, and every question ends.
#include "actors/instance/rank_info_server.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/rank_packing.hpp"
#include "tests/support/sample_ranks.hpp"
#include "tests/support/virtual_system.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

struct fixture {
    virtual_system vs;
    limits bounds;
    rank_info_server_actor server;

    explicit fixture(std::uint32_t world_size = 2, std::size_t questions_max = 4096) {
        bounds.info_questions_max = questions_max;
        server = vs.track(spawn_rank_info_server(vs.system(), {}, {"context", world_size, bounds}));
    }

    reply<void> enter(rank_info info) {
        return vs.ask_and_run<void>(server, introduction(std::move(info)));
    }

    reply<void> enter(std::uint32_t rank) { return enter(sample_rank("context", rank, 2)); }

    reply<instance_info> ask() {
        request_instance_info question;
        question.header.sender = {9};
        return vs.ask_and_run<instance_info>(server, question);
    }

    reply<info_frame> ask_framed(const wire_message& question) {
        return vs.ask_and_run<info_frame>(
            server, info_frame{encode(question, bounds.message_bytes_max).value()});
    }

    template <class Message>
    Message framed_answer(const reply<info_frame>& answer) {
        REQUIRE(answer.ok());
        auto message = decode(answer.value().bytes(), bounds.message_bytes_max);
        REQUIRE(message);
        REQUIRE(std::holds_alternative<Message>(*message));
        return std::get<Message>(*message);
    }

    std::vector<rank_info> ranks_in(const reply<info_frame>& answer) {
        auto ranks = unpack_ranks(framed_answer<packed_instance>(answer).ranks, 1 << 20);
        REQUIRE(ranks);
        return *ranks;
    }
};

} // namespace

TEST_CASE_FIXTURE(fixture,
                  "rank_info_server: a complete instance is handed out whole, in rank order") {
    CHECK(enter(1).ok());
    CHECK(enter(0).ok());
    auto answer = ask();
    REQUIRE(answer.ok());
    const auto& ranks = answer.value().ranks;
    REQUIRE(ranks.size() == 2);
    CHECK(ranks[0] == sample_rank("context", 0, 2));
    CHECK(ranks[1] == sample_rank("context", 1, 2));
    CHECK(answer.value().header.sender == ranks[0].incarnation);
    CHECK(answer.value().header.receiver == incarnation{9});
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: it says which ranks are here, where they answer, and "
                           "since when they are silent") {
    auto introduced = introduction(sample_rank("context", 1, 2));
    introduced.answers_at = std::vector<std::string>(20, "10.0.0.7:4711");
    CHECK(vs.ask_and_run<void>(server, introduced).ok());
    vs.advance(3s);
    const auto listed = vs.ask_and_run<ranks_listed>(server, list_ranks{});
    REQUIRE(listed.ok());
    const auto& places = listed.value().places;
    REQUIRE(places.size() == 2);
    CHECK_FALSE(places[0].known);
    CHECK(places[1].known);
    CHECK(places[1].rank == rank_id{1});
    CHECK(places[1].protocol == sample_rank("context", 1, 2).protocol);
    CHECK(places[1].answers_at == std::vector<std::string>(8, "10.0.0.7:4711")); // no more are kept
    CHECK(places[1].silent_ms == 3000);
}

TEST_CASE_FIXTURE(fixture,
                  "rank_info_server: questions wait for the last rank and are answered together") {
    auto early = ask();
    CHECK(enter(0).ok());
    auto later = ask();
    CHECK(early.pending());
    CHECK(later.pending());
    CHECK(enter(1).ok());
    REQUIRE(early.ok());
    REQUIRE(later.ok());
    CHECK(early.value().ranks.size() == 2);
}

TEST_CASE_FIXTURE(
    fixture, "rank_info_server: a question ends at its own deadline and names the missing ranks") {
    const auto patience = bounds.info_deadline * 4 / 5; // so that the asker still hears it
    auto first = ask();
    vs.advance(patience / 2);
    CHECK(enter(1).ok());
    auto second = ask();
    vs.advance(patience / 2 - 1ms);
    CHECK(first.pending());
    vs.advance(1ms);
    CHECK(first.code() == errc::instance_incomplete);
    CHECK(text_of(first.error()).find("rank 0 of 2") != std::string::npos);
    CHECK(second.pending());
    vs.advance(patience / 2 - 1ms);
    CHECK(second.pending());
    vs.advance(1ms);
    CHECK(second.code() == errc::instance_incomplete);
    // The server lives on: it answers once complete.
    CHECK(enter(0).ok());
    CHECK(ask().ok());
}

TEST_CASE("rank_info_server: many missing ranks are counted, not listed") {
    fixture f{100};
    auto answer = f.ask();
    f.vs.advance(f.bounds.info_deadline);
    REQUIRE(answer.failed());
    CHECK(text_of(answer.error()).find("ranks 0, 1, 2") != std::string::npos);
    CHECK(text_of(answer.error()).find("and 84 more of 100") != std::string::npos);
}

TEST_CASE("rank_info_server: one timer serves any number of questions") {
    fixture f;
    std::vector<reply<instance_info>> answers;
    for (int i = 0; i < 100; ++i) {
        answers.push_back(f.ask());
        f.vs.advance(1ms);
    }
    CHECK(f.vs.scheduler().clock().schedule.size() == 1);
    f.vs.advance(f.bounds.info_deadline);
    for (const auto& answer : answers)
        CHECK(answer.code() == errc::instance_incomplete);
    CHECK(f.vs.scheduler().clock().schedule.empty());
}

TEST_CASE("rank_info_server: the questions that wait are bounded by name") {
    fixture f{2, 3};
    std::vector<reply<instance_info>> waiting;
    for (int i = 0; i < 3; ++i)
        waiting.push_back(f.ask());
    auto refused_one = f.ask();
    CHECK(refused_one.code() == errc::limit_exceeded);
    CHECK(text_of(refused_one.error()).find("info_questions_max = 3") != std::string::npos);
    auto framed = f.framed_answer<refused>(f.ask_framed(request_instance_info{}));
    CHECK(framed.reason.code == errc::limit_exceeded);
    f.vs.advance(f.bounds.info_deadline);
    CHECK(waiting[2].code() == errc::instance_incomplete);
    CHECK(f.ask().pending()); // there is room again
}

TEST_CASE_FIXTURE(fixture,
                  "rank_info_server: the same incarnation again changes only what it says") {
    CHECK(enter(0).ok());
    CHECK(enter(1).ok());
    CHECK(enter(1).ok());
    CHECK_FALSE(ask().value().ranks[1].pages);
    auto published = sample_rank("context", 1, 2);
    published.pages.emplace().pools.resize(3);
    CHECK(enter(published).ok());
    CHECK(ask().value().ranks[1].pages->pools.size() == 3);
    CHECK(ask().value().ranks.size() == 2);
}

TEST_CASE_FIXTURE(
    fixture,
    "rank_info_server: a restarted rank replaces its former self, which is heard no more") {
    CHECK(enter(0).ok());
    CHECK(enter(1).ok());
    auto restarted = sample_rank("context", 1, 2);
    restarted.incarnation = {5555};
    restarted.token = {6};
    CHECK(enter(restarted).ok());
    CHECK(ask().value().ranks[1] == restarted);
    auto late = enter(1);
    CHECK(late.code() == errc::stale_incarnation);
    CHECK(text_of(late.error()).find("5555") != std::string::npos);
    CHECK(ask().value().ranks[1] == restarted);
    // New starts are always accepted, but the memory for old ones is bounded.
    for (std::uint64_t start = 1; start < 50; ++start) {
        restarted.incarnation = {10000 + start};
        CHECK(enter(restarted).ok());
    }
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: the last words of a dead rank, heard after its "
                           "successor's first, take the place for two periods at most (H35)") {
    CHECK(enter(0).ok());
    auto restarted = sample_rank("context", 1, 2);
    restarted.incarnation = {5555};
    CHECK(enter(restarted).ok());
    CHECK(enter(1).ok()); // the dead one
    CHECK(enter(restarted).code() == errc::stale_incarnation);
    vs.advance(bounds.registration_period);
    CHECK(enter(restarted).code() == errc::stale_incarnation);
    vs.advance(bounds.registration_period);
    CHECK(enter(restarted).ok());
    CHECK(ask().value().ranks[1] == restarted);
    CHECK(enter(1).code() == errc::stale_incarnation);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: a rank that speaks keeps its place against those it "
                           "has replaced") {
    CHECK(enter(0).ok());
    CHECK(enter(1).ok());
    auto restarted = sample_rank("context", 1, 2);
    restarted.incarnation = {5555};
    for (int period = 0; period < 10; ++period) {
        CHECK(enter(restarted).ok());
        CHECK(enter(1).code() == errc::stale_incarnation); // it lives, and was replaced
        vs.advance(bounds.registration_period);
    }
}

TEST_CASE_FIXTURE(fixture,
                  "rank_info_server: a rank that does not belong is refused with both values") {
    struct row {
        const char* what;
        std::function<void(rank_info&)> bend;
        errc code;
        std::string shown;
    };
    const row rows[] = {
        {"another instance", [](rank_info& x) { x.instance = "other"; }, errc::invalid_argument,
         "\"context\""},
        {"another world", [](rank_info& x) { x = sample_rank("context", 1, 4); },
         errc::invalid_argument, "world_size 4"},
        {"a rank too many", [](rank_info& x) { x.rank = {2}; }, errc::invalid_argument,
         "context/2"},
        {"another place", [](rank_info& x) { x.rank = {0}; }, errc::layout_mismatch, "rank 1"},
        {"an index beyond its size", [](rank_info& x) { x.layout.tp_rank = 2; },
         errc::layout_mismatch, "tp_rank 2"},
        {"sizes of another world", [](rank_info& x) { x.layout.pp_size = 2; },
         errc::layout_mismatch, "pp_size 2"},
        {"sizes of zero", [](rank_info& x) { x.layout.cp_size = 0; }, errc::layout_mismatch, "cp"},
        {"no layers", [](rank_info& x) { x.layout.layers_per_stage.clear(); },
         errc::layout_mismatch, "layers_per_stage"},
        {"another split", [](rank_info& x) { x.layout = {1, 0, 1, 0, 2, 1, false, {2}}; },
         errc::layout_mismatch, "cp 2"},
        {"other layers", [](rank_info& x) { x.layout.layers_per_stage = {3}; },
         errc::layout_mismatch, "layers_per_stage 3"},
        {"attention DP on one side", [](rank_info& x) { x.layout.attention_dp = true; },
         errc::layout_mismatch, "attention_dp 1"},
    };
    CHECK(enter(0).ok());
    for (const auto& [what, bend, code, shown] : rows) {
        CAPTURE(what);
        auto stranger = sample_rank("context", 1, 2);
        bend(stranger);
        auto answer = enter(stranger);
        REQUIRE(answer.failed());
        CAPTURE(text_of(answer.error()));
        CHECK(answer.code() == code);
        CHECK(text_of(answer.error()).find(shown) != std::string::npos);
        // In a frame the same error arrives as `refused`.
        auto framed = framed_answer<refused>(ask_framed(introduction(stranger)));
        CHECK(framed.reason.code == code);
    }
    CHECK(ask().pending()); // the refused questions took no place
    CHECK(enter(1).ok());
}

TEST_CASE("rank_info_server: ranks of a stage are CP-minor") {
    fixture f{8};
    for (std::uint32_t rank = 0; rank < 8; ++rank) {
        auto info = sample_rank("context", rank, 2, 2, 2);
        if (rank == 1) { // with TP counted first, this would be rank 2
            CHECK(info.layout.cp_rank == 1);
            CHECK(info.layout.tp_rank == 0);
        }
        CHECK(f.enter(info).ok());
    }
    CHECK(f.ask().ok());
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: frames ask and register like messages") {
    auto asked = ask_framed(request_instance_info{});
    CHECK(asked.pending());
    CHECK(framed_answer<rank_registered>(ask_framed(introduction(sample_rank("context", 0, 2))))
              .header.receiver
          == incarnation{1000});
    CHECK(asked.pending());
    framed_answer<rank_registered>(ask_framed(introduction(sample_rank("context", 1, 2))));
    CHECK(ranks_in(asked).size() == 2);
    CHECK(ranks_in(ask_framed(request_instance_info{})).size() == 2);
}

TEST_CASE_FIXTURE(fixture,
                  "rank_info_server: a rank that introduces itself in the same words again "
                  "is heard as long as it has its place") {
    const wire_message first = introduction(sample_rank("context", 1, 2));
    auto replacing = introduction(sample_rank("context", 1, 2));
    replacing.header.sender = replacing.info.incarnation = {5555};
    const auto silent_ms = [this] {
        return vs.ask_and_run<ranks_listed>(server, list_ranks{}).value().places[1].silent_ms;
    };
    framed_answer<rank_registered>(ask_framed(first));
    vs.advance(3s);
    CHECK(silent_ms() == 3000);
    CHECK(framed_answer<rank_registered>(ask_framed(first)).header.receiver
          == header_of(first).sender);
    CHECK(silent_ms() == 0);

    framed_answer<rank_registered>(ask_framed(replacing));
    vs.advance(3s);
    CHECK(framed_answer<refused>(ask_framed(first)).reason.code == errc::stale_incarnation);
    CHECK(silent_ms() == 3000);
    vs.advance(2 * bounds.registration_period);
    framed_answer<rank_registered>(ask_framed(first));
    CHECK(silent_ms() == 0);
    CHECK(framed_answer<refused>(ask_framed(replacing)).reason.code == errc::stale_incarnation);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: words of a rank that says other ones now are new") {
    framed_answer<rank_registered>(ask_framed(introduction(sample_rank("context", 0, 2))));
    auto before = introduction(sample_rank("context", 1, 2));
    auto now = before;
    now.info.machine = "another one";
    for (const auto& said : {before, now, before}) {
        framed_answer<rank_registered>(ask_framed(said));
        CHECK(ranks_in(ask_framed(request_instance_info{}))[1] == said.info);
    }
    CHECK(enter(now.info).ok()); // told by its own process
    framed_answer<rank_registered>(ask_framed(before));
    CHECK(ranks_in(ask_framed(request_instance_info{}))[1] == before.info);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: a framed question ends at its deadline") {
    auto asked = ask_framed(request_instance_info{});
    vs.advance(bounds.info_deadline);
    CHECK(framed_answer<refused>(asked).reason.code == errc::instance_incomplete);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: bytes that are no question are refused by name") {
    auto nonsense = vs.ask_and_run<info_frame>(server, info_frame{byte_buffer(100, caf::byte{7})});
    CHECK(framed_answer<refused>(nonsense).reason.code == errc::malformed_message);

    auto other_version = encode(request_instance_info{}, 1000).value();
    other_version[5] ^= caf::byte{0xff};
    auto mismatch = vs.ask_and_run<info_frame>(server, info_frame{other_version});
    CHECK(framed_answer<refused>(mismatch).reason.code == errc::protocol_mismatch);

    auto wrong = framed_answer<refused>(ask_framed(request_data{}));
    CHECK(wrong.reason.code == errc::invalid_argument);
    CHECK(wrong.reason.text.find("request_data") != std::string::npos);
}

TEST_CASE("rank_info_server: an instance too large for a frame is refused, not cut") {
    virtual_system vs;
    limits bounds;
    bounds.message_bytes_max = 2000;
    auto server = vs.track(spawn_rank_info_server(vs.system(), {}, {"context", 1, bounds}));
    auto info = sample_rank("context", 0, 1);
    info.machine.assign(3000, 'm');
    CHECK(vs.ask_and_run<void>(server, introduction(info)).ok());
    auto answer = vs.ask_and_run<info_frame>(
        server, info_frame{encode(request_instance_info{}, 2000).value()});
    auto message = decode(answer.value().bytes(), 2000);
    REQUIRE(message);
    CHECK(std::get<refused>(*message).reason.code == errc::limit_exceeded);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: all askers of one roster share one frame") {
    CHECK(enter(0).ok());
    const auto early = ask_framed(request_instance_info{});
    CHECK(enter(1).ok());
    const auto first = ask_framed(request_instance_info{});
    CHECK(enter(1).ok()); // the same again is no change
    const auto second = ask_framed(request_instance_info{});
    CHECK(first.value().shared == early.value().shared);
    CHECK(first.value().shared == second.value().shared);
    auto restarted = sample_rank("context", 1, 2);
    restarted.incarnation = {5555};
    CHECK(enter(restarted).ok());
    const auto third = ask_framed(request_instance_info{});
    CHECK(third.value().shared != first.value().shared);
    CHECK(ranks_in(third)[1] == restarted);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: who knows all ranks as they are is told just that") {
    CHECK(enter(0).ok());
    CHECK(enter(1).ok());
    request_instance_info question;
    question.header.sender = {9};
    question.known = framed_answer<packed_instance>(ask_framed(question)).digest;
    CHECK(question.known != 0);
    const auto unchanged = ask_framed(question);
    CHECK(framed_answer<instance_unchanged>(unchanged).header.receiver == incarnation{9});
    CHECK(unchanged.value().bytes().size() < 200);
    auto published = sample_rank("context", 1, 2);
    published.pages.emplace().pools.resize(3);
    CHECK(enter(published).ok());
    const auto changed = framed_answer<packed_instance>(ask_framed(question));
    CHECK(changed.digest != question.known);
    question.known = changed.digest;
    framed_answer<instance_unchanged>(ask_framed(question));
}

TEST_CASE("rank_info_server: an instance above instance_bytes_max is refused by name") {
    virtual_system vs;
    limits bounds;
    bounds.instance_bytes_max = 3000;
    auto server = vs.track(spawn_rank_info_server(vs.system(), {}, {"context", 1, bounds}));
    auto info = sample_rank("context", 0, 1);
    info.machine.assign(4000, 'm');
    CHECK(vs.ask_and_run<void>(server, introduction(info)).ok());
    auto answer = vs.ask_and_run<info_frame>(
        server, info_frame{encode(request_instance_info{}, 2000).value()});
    auto message = decode(answer.value().bytes(), 1 << 20);
    REQUIRE(message);
    const auto& reason = std::get<refused>(*message).reason;
    CHECK(reason.code == errc::limit_exceeded);
    CHECK(reason.text.find("\"context\"") != std::string::npos);
    CHECK(reason.text.find("instance_bytes_max = 3000") != std::string::npos);
}

TEST_CASE_FIXTURE(fixture, "rank_info_server: every asker is answered in its own version, a newer "
                           "one in that of the server") {
    auto info = [](std::uint32_t rank) {
        auto result = sample_rank("context", rank, 2);
        result.protocol = protocol_version;
        return result;
    };
    CHECK(enter(info(0)).ok());
    CHECK(enter(info(1)).ok());
    for (auto version = oldest_protocol_version; version <= protocol_version; ++version) {
        CAPTURE(version);
        request_instance_info question;
        question.header.version = version;
        const auto answer = framed_answer<packed_instance>(ask_framed(question));
        CHECK(answer.header.version == version);
        const auto ranks = unpack_ranks(answer.ranks, 1 << 20, version);
        REQUIRE(ranks);
        CHECK(ranks->at(1).protocol == (version < 7 ? unsaid_protocol : protocol_version));
        question.known = answer.digest;
        const auto same = framed_answer<instance_unchanged>(ask_framed(question));
        CHECK(same.header.version == version);
    }
    auto newer = encode(request_instance_info{}, 1000).value();
    newer[5] = static_cast<caf::byte>(protocol_version + 1);
    const auto refusal =
        framed_answer<refused>(vs.ask_and_run<info_frame>(server, info_frame{newer}));
    CHECK(refusal.header.version == protocol_version);
    CHECK(refusal.reason.code == errc::protocol_mismatch);
}
