// SPDX-License-Identifier: Apache-2.0
// What a rank says of itself: numbers always, sessions when its loop answers, bounded in any case.
#include "actors/instance/rank_teller.hpp"
#include "messages/local/status.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/virtual_system.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

struct fixture {
    virtual_system vs;
    limits bounds;
    rank_counters_ptr counters = std::make_shared<rank_counters>("context/1");
    stub<transfer_worker_actor> worker{vs};
    stub<rank_info_server_actor> server{vs};
    rank_teller_actor teller;

    void start(bool is_rank_0 = false) {
        teller = vs.track(spawn_rank_teller(
            vs.system(), {},
            {bounds, 2, counters, is_rank_0 ? server.handle() : rank_info_server_actor{}}));
        vs.tell_and_run(teller, adopt_rank{worker.handle(), {77}});
    }

    void hang() {
        worker.answer<list_sessions>([](const list_sessions&) -> caf::result<session_list> {
            return caf::delegated<session_list>{}; // to nobody
        });
    }

    void has(session_list sessions) {
        worker.answer<list_sessions>([all = std::move(sessions)](const list_sessions&) {
            return caf::result<session_list>{all};
        });
    }

    static session_status session(std::uint64_t id, std::optional<time_point> deadline = {},
                                  std::size_t waits = 1) {
        session_status result;
        result.request = {id};
        result.state = session_state::transferring;
        result.deadline = deadline;
        for (std::size_t index = 0; index < waits; ++index)
            result.waits.push_back({"reports", "tx_session", "prefill/" + std::to_string(index)});
        return result;
    }

    reply<info_frame> ask(const wire_message& question) {
        return vs.ask_and_run<info_frame>(teller, info_frame{encode(question, 1 << 20).value()});
    }

    template <class Message>
    static Message read(const reply<info_frame>& answer) {
        REQUIRE(answer.ok());
        auto message = decode(answer.value().bytes(), 1 << 20);
        REQUIRE(message);
        REQUIRE(std::holds_alternative<Message>(*message));
        return std::get<Message>(*message);
    }

    static query_rank wants(std::uint32_t sessions) {
        query_rank result;
        result.header.sender = {5};
        result.sessions_max = sessions;
        return result;
    }
};

} // namespace

TEST_CASE_FIXTURE(fixture, "rank_teller: numbers come from counters, and cost the loop nothing") {
    start();
    counters->add(side::context, session_count::opened);
    rank_counters::at(counters->of(side::context).states, session_state::transferring) = 3;
    rank_counters::at(counters->of(side::context).states, session_state::error) = -1;
    counters->ended(side::context, errc::none, 1ms, 1ms);
    counters->ended(side::context, errc::deadline_exceeded, 1ms, 1ms);
    counters->ended(side::context, errc::deadline_exceeded, 1ms, 1ms);
    rank_counters::at(counters->of(side::generation).bytes, 1) = 1000;
    rank_counters::at(counters->of(side::generation).bytes, 2) = 24;
    counters->links = 2;
    counters->phase = rank_phase::draining;
    const auto said = read<rank_status>(ask(wants(0)));
    CHECK(worker.count() == 0);
    CHECK(said.rank == "context/1");
    CHECK(said.world_size == 2);
    CHECK(said.phase == "draining");
    CHECK(said.protocol == protocol_version);
    CHECK(said.links == 2);
    CHECK(said.header.sender == incarnation{77});
    CHECK(said.header.receiver == incarnation{5});
    CHECK(said.problem.empty());
    CHECK(said.places.empty());
    REQUIRE(said.sides.size() == 2);
    const auto& context = said.sides[0];
    CHECK(context.side == "context");
    REQUIRE(context.states.size() == 1); // no gauge below zero
    CHECK(context.states[0].name == "TRANSFERRING");
    CHECK(context.states[0].count == 3);
    CHECK(context.succeeded == 1);
    REQUIRE(context.failed.size() == 1);
    CHECK(context.failed[0].name == "deadline_exceeded");
    CHECK(context.failed[0].count == 2);
    CHECK(said.sides[1].bytes == 1024);
}

TEST_CASE_FIXTURE(fixture,
                  "rank_teller: as many sessions as are wanted, those that end next first") {
    start();
    session_list all;
    const auto now = vs.now();
    all.sessions = {session(1), session(2, now + 9s), session(3, now + 2s)};
    all.sessions[2].opened_at = now - 4s;
    all.unopened = {session(4, now + 5s)};
    has(all);
    rank_counters::at(counters->of(side::context).states, session_state::transferring) = 3;
    const auto said = read<rank_status>(ask(wants(2)));
    REQUIRE(worker.received<list_sessions>().size() == 1);
    CHECK(worker.received<list_sessions>()[0].most == 2);
    CHECK_FALSE(worker.received<list_sessions>()[0].request);
    REQUIRE(said.sessions.size() == 2);
    CHECK(said.sessions[0].request == rid{3});
    CHECK(said.sessions[0].left_ns == 2'000'000'000u);
    CHECK(said.sessions[0].age_ns == 4'000'000'000u);
    CHECK(said.sessions[1].request == rid{4});
    CHECK(said.sessions[1].state == "NONE");
    CHECK(said.sessions_untold == 2); // of the three that are open one is listed
}

TEST_CASE_FIXTURE(fixture, "rank_teller: an answer is bounded in sessions, waits and texts") {
    bounds.told_sessions_max = 3;
    start();
    session_list all;
    for (std::uint64_t id = 0; id < 5; ++id)
        all.sessions.push_back(session(id, {}, 2000));
    all.sessions[0].waits[0].what = std::string(1000, 'x');
    has(all);
    auto listed = read<rank_status>(ask(wants(1000)));
    CHECK(worker.received<list_sessions>()[0].most == 3);
    REQUIRE(listed.sessions.size() == 3);
    CHECK(listed.sessions[0].waits.size() == 4);
    CHECK(listed.sessions[0].waits_untold == 1996);
    CHECK(listed.sessions[0].waits[0].what.size() == 256);
    auto question = wants(0);
    question.request = rid{0};
    listed = read<rank_status>(ask(question));
    CHECK(worker.received<list_sessions>()[1].request == rid{0});
    CHECK(listed.sessions.size() == 3);
    CHECK(listed.sessions[0].waits.size() == 1024);
}

TEST_CASE_FIXTURE(
    fixture,
    "rank_teller: a loop that hangs is told with the numbers, and asked nothing more until it "
    "speaks") {
    start();
    hang();
    rank_counters::at(counters->of(side::context).states, session_state::ready) = 1;
    auto first = ask(wants(10));
    vs.advance(bounds.rank_answer_deadline - 1ms);
    CHECK(first.pending());
    vs.advance(1ms);
    const auto said = read<rank_status>(first);
    CHECK(said.problem == "the rank's loop has not answered for 500 ms");
    CHECK(said.sides[0].states.size() == 1);
    vs.advance(2500ms);
    for (int times = 0; times < 100; ++times)
        CHECK(read<rank_status>(ask(wants(10))).problem
              == "the rank's loop has not answered for 3.00 s");
    CHECK(worker.received<list_sessions>().size() == 1);
    // Made anew it is asked again.
    has({});
    vs.tell_and_run(teller, adopt_rank{worker.handle(), {78}});
    CHECK(read<rank_status>(ask(wants(10))).problem.empty());
    CHECK(worker.received<list_sessions>().size() == 2);
}

TEST_CASE_FIXTURE(fixture, "rank_teller: no more questions at a time than it has room for") {
    bounds.rank_questions_max = 2;
    start();
    hang();
    auto first = ask(wants(1));
    auto second = ask(wants(1));
    const auto no = read<refused>(ask(wants(1)));
    CHECK(no.reason.code == errc::limit_exceeded);
    CHECK(contains(no.reason.text, "rank_questions_max = 2"));
    vs.advance(bounds.rank_answer_deadline);
    CHECK(first.ok());
    CHECK(second.ok());
    CHECK(read<rank_status>(ask(wants(1))).rank == "context/1");
}

TEST_CASE_FIXTURE(fixture, "rank_teller: rank 0 says where the others answer") {
    server.answer<list_ranks>([](const list_ranks&) {
        ranks_listed all;
        all.places.resize(2);
        all.places[1] = {{1}, true, 7, {"10.0.0.7:4711"}, 1200};
        return caf::result<ranks_listed>{all};
    });
    start(true);
    const auto said = read<rank_status>(ask(wants(0)));
    REQUIRE(said.places.size() == 2);
    CHECK_FALSE(said.places[0].known);
    CHECK(said.places[1].answers_at == std::vector<std::string>{"10.0.0.7:4711"});
    CHECK(said.places[1].silent_ms == 1200);
}

TEST_CASE_FIXTURE(fixture, "rank_teller: whatever else is asked is refused by name") {
    start();
    auto no = read<refused>(ask(request_instance_info{}));
    CHECK(no.reason.code == errc::invalid_argument);
    CHECK(contains(no.reason.text, "does not understand request_instance_info"));
    const auto garbage =
        vs.ask_and_run<info_frame>(teller, info_frame{byte_buffer(40, caf::byte{1})});
    CHECK(read<refused>(garbage).reason.code == errc::malformed_message);
}
