// SPDX-License-Identifier: Apache-2.0
// The table of sessions, driven without actors: every state against every event.
#include "actors/decisions/session_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

struct note {
    std::string text;
};

using table = session_table<rid, note>;

constexpr time_point start{};
constexpr rid ours{7};
constexpr caf::actor_id actor = 70;

table make_table(bool dead_hold_up_a_stop = false, std::size_t sessions_max = 2) {
    return table{{"sending session", sessions_max, dead_hold_up_a_stop}};
}

table::opened opening(rid request = ours, caf::actor_id id = actor) {
    return {request, id, 10ms, 1000ms, {"note of " + to_string(request)}};
}

caf::error some(errc code = errc::stopped) {
    return make_error(code, "a reason");
}

std::string name_of(const table::effect& x) {
    struct names {
        std::string operator()(const table::refuse& x) {
            return "refuse " + to_string(code_of(x.why));
        }
        std::string operator()(const table::count& x) {
            return x.what == session_count::opened ? "count opened" : "count forgotten";
        }
        std::string operator()(const table::count_outcome& x) {
            return "outcome " + to_string(x.why);
        }
        std::string operator()(const table::count_death&) { return "count death"; }
        std::string operator()(const table::tell_deadline&) { return "tell deadline"; }
        std::string operator()(const table::announce_death& x) {
            return x.outcome_told ? "announce death, outcome known" : "announce death";
        }
        std::string operator()(const table::tell_released&) { return "tell released"; }
        std::string operator()(const table::forget&) { return "forget"; }
        std::string operator()(const table::answer_stop& x) {
            return x.kept ? "answer stop, kept" : "answer stop";
        }
    };
    return std::visit(names{}, x);
}

std::string names_of(const table::effects& all) {
    std::string result;
    for (const auto& each : all)
        result.append(result.empty() ? "" : ", ").append(name_of(each));
    return result;
}

/// What a table with one session in some state answers.
struct row {
    std::string_view event;
    table::event what;
    std::string_view unknown, running, ended, dead;
};

table in_state(std::string_view state) {
    auto result = make_table();
    if (state != "unknown")
        result.on(opening(), start);
    if (state == "ended")
        result.on(table::outcome_told{ours}, start);
    if (state == "dead")
        result.on(table::died{ours, some(errc::handler_failed)}, start);
    return result;
}

const std::vector<row> rows{
    {"open_asked", table::open_asked{ours, ours}, "", "refuse duplicate", "refuse duplicate",
     "refuse duplicate"},
    {"opened", opening(ours, 71), "count opened", "count opened", "count opened", "count opened"},
    {"first_piece_began", table::first_piece_began{ours}, "", "", "", ""},
    {"extended", table::extended{ours, 1s}, "", "", "", ""},
    {"kept", table::kept{ours}, "", "", "", ""},
    {"outcome_told", table::outcome_told{ours}, "", "outcome none", "", ""},
    {"retired", table::retired{ours}, "", "count forgotten, forget", "count forgotten, forget",
     "count forgotten, forget"},
    {"died", table::died{ours, some()}, "", "count death, outcome handler_failed, announce death",
     "count death, announce death, outcome known", ""},
    {"proven_quiet", table::proven_quiet{ours}, "", "", "",
     "tell released, count forgotten, forget"},
    {"tick", table::tick{}, "", "tell deadline", "tell deadline", ""},
    {"stop_asked", table::stop_asked{some()}, "answer stop", "", "", "answer stop, kept"},
};

} // namespace

TEST_CASE("session_table: every state answers every event as written down") {
    REQUIRE(rows.size() == std::variant_size_v<table::event>);
    for (std::size_t index = 0; index < rows.size(); ++index) {
        const auto& [event, what, unknown, running, ended, dead] = rows[index];
        CAPTURE(event);
        REQUIRE(what.index() == index);
        const auto late = start + 20ms;
        CHECK(names_of(in_state("unknown").on(table::event{what}, late)) == unknown);
        CHECK(names_of(in_state("running").on(table::event{what}, late)) == running);
        CHECK(names_of(in_state("ended").on(table::event{what}, late)) == ended);
        CHECK(names_of(in_state("dead").on(table::event{what}, late)) == dead);
    }
}

TEST_CASE("session_table: no state has an outcome told twice, or counts a session twice") {
    auto sessions = make_table();
    std::size_t opened = 0, ended = 0, forgotten = 0, announced = 0;
    auto perform = [&](const table::effects& all) {
        for (const auto& each : all) {
            opened += name_of(each) == "count opened";
            ended += std::holds_alternative<table::count_outcome>(each);
            forgotten += name_of(each) == "count forgotten";
            announced += name_of(each) == "announce death";
        }
    };
    for (auto what :
         {table::event{opening()}, table::event{table::outcome_told{ours}},
          table::event{table::outcome_told{ours}}, table::event{table::died{ours, some()}},
          table::event{table::died{ours, some()}}, table::event{table::proven_quiet{ours}},
          table::event{table::retired{ours}}, table::event{table::proven_quiet{ours}}})
        perform(sessions.on(std::move(what), start));
    CHECK(opened == 1);
    CHECK(ended == 1);
    CHECK(forgotten == 1);
    CHECK(announced == 0);
}

TEST_CASE("session_table: limits, long rids and a stop refuse by name") {
    auto sessions = make_table();
    const auto asked = [&](rid request) {
        return names_of(sessions.on(table::open_asked{request, request}, start));
    };
    CHECK(asked({rid_max + 1}) == "refuse invalid_argument");
    sessions.on(opening({1}, 1), start);
    CHECK(asked({2}).empty());
    sessions.on(opening({2}, 2), start);
    CHECK(asked({3}) == "refuse limit_exceeded");
    sessions.on(table::retired{{1}}, start);
    CHECK(asked({3}).empty());
    sessions.on(table::stop_asked{some()}, start);
    CHECK(asked({3}) == "refuse stopped");
}

TEST_CASE("session_table: each session has its own clock, and another one from its first piece") {
    auto sessions = make_table();
    sessions.on(opening({1}, 1), start);
    sessions.on(opening({2}, 2), start + 1ms);
    CHECK(sessions.deadlines().next() == start + 10ms);
    sessions.on(table::first_piece_began{{1}}, start + 5ms);
    CHECK(sessions.deadlines().of({1}) == start + 1005ms);
    CHECK(sessions.deadlines().next() == start + 11ms);
    const auto due = sessions.on(table::tick{}, start + 11ms);
    REQUIRE(due.size() == 1);
    CHECK(std::get<table::tell_deadline>(due[0]).key == rid{2});
    sessions.on(table::died{{1}, some()}, start);
    CHECK_FALSE(sessions.deadlines().next());
}

TEST_CASE(
    "session_table: an extension moves the deadline that runs, and outlasts the first piece") {
    auto sessions = make_table();
    const auto ends = [&] { return sessions.deadlines().of(ours); };
    sessions.on(opening(), start);
    sessions.on(table::extended{ours, 5ms}, start + 1ms);
    CHECK(ends() == start + 10ms); // never earlier
    sessions.on(table::extended{ours, 3000ms}, start + 2ms);
    CHECK(ends() == start + 3002ms);
    sessions.on(table::first_piece_began{ours}, start + 3ms);
    CHECK(ends() == start + 3002ms);
    sessions.on(table::extended{ours, 4000ms}, start + 4ms);
    CHECK(ends() == start + 4004ms);
    sessions.on(table::outcome_told{ours}, start + 5ms);
    sessions.on(table::extended{ours, 9000ms}, start + 6ms);
    sessions.on(table::kept{ours}, start + 6ms);
    CHECK(ends() == start + 4004ms); // it waits for its release only
}

TEST_CASE("session_table: who is wanted gets its deadline anew, whichever of the two runs") {
    auto sessions = make_table();
    sessions.on(opening(), start);
    sessions.on(table::kept{ours}, start + 9ms);
    CHECK(sessions.deadlines().of(ours) == start + 19ms);
    sessions.on(table::first_piece_began{ours}, start + 10ms);
    sessions.on(table::kept{ours}, start + 500ms);
    CHECK(sessions.deadlines().of(ours) == start + 1500ms);
    // One that has been told of its deadline is not called back.
    CHECK(names_of(sessions.on(table::tick{}, start + 1500ms)) == "tell deadline");
    sessions.on(table::kept{ours}, start + 1500ms);
    CHECK_FALSE(sessions.deadlines().of(ours));
}

TEST_CASE("session_table: nobody can extend a session beyond its greatest age") {
    table sessions{{"sending session", 2, false, 50ms}};
    sessions.on(opening(), start + 100ms);
    sessions.on(table::extended{ours, 1h}, start + 101ms);
    CHECK(sessions.deadlines().of(ours) == start + 150ms);
    for (auto at = start + 101ms; at < start + 200ms; at += 1ms)
        sessions.on(table::kept{ours}, at);
    CHECK(sessions.deadlines().of(ours) == start + 150ms);
    // Deadlines of its own may be longer.
    sessions.on(table::first_piece_began{ours}, start + 149ms);
    CHECK(sessions.deadlines().of(ours) == start + 1149ms);
}

TEST_CASE("session_table: an outcome tells how long it waited and was transferring") {
    auto sessions = make_table();
    sessions.on(opening(), start);
    sessions.on(table::first_piece_began{ours}, start + 3ms);
    const auto told = sessions.on(table::outcome_told{ours, errc::link_lost}, start + 8ms);
    const auto& outcome = std::get<table::count_outcome>(told.at(0));
    CHECK(outcome.why == errc::link_lost);
    CHECK(outcome.waited == 3ms);
    CHECK(outcome.transferred == 5ms);
}

TEST_CASE("session_table: an actor is known by its id until its session is retired") {
    auto sessions = make_table();
    sessions.on(opening(), start);
    CHECK(sessions.session_of(actor) == ours);
    sessions.on(opening(ours, 71), start); // takes its place
    CHECK_FALSE(sessions.session_of(actor));
    CHECK(sessions.session_of(71) == ours);
    sessions.on(table::retired{ours}, start);
    CHECK_FALSE(sessions.session_of(71));
}

TEST_CASE("session_table: what is forgotten is handed out, what died keeps its reason") {
    auto sessions = make_table();
    sessions.on(opening(), start);
    sessions.on(table::died{ours, some(errc::handler_failed)}, start);
    CHECK(code_of(sessions.at(ours).death()) == errc::handler_failed);
    CHECK(sessions.at(ours).has_ended());
    const auto quiet = sessions.on(table::proven_quiet{ours}, start);
    CHECK(std::get<table::tell_released>(quiet.at(0)).data.text == "note of 7");
    CHECK(std::get<table::forget>(quiet.at(2)).last.text == "note of 7");
    CHECK(sessions.size() == 0);
}

TEST_CASE(
    "session_table: a stop waits for the living; the dead hold it up where they can be proven "
    "quiet, and are its answer where they cannot (I10)") {
    for (const auto hold_up : {false, true}) {
        CAPTURE(hold_up);
        auto sessions = make_table(hold_up);
        sessions.on(opening({1}, 1), start);
        sessions.on(opening({2}, 2), start);
        CHECK(names_of(sessions.on(table::stop_asked{some()}, start)).empty());
        CHECK(names_of(sessions.on(table::retired{{1}}, start)) == "count forgotten, forget");
        const auto died = names_of(sessions.on(table::died{{2}, some()}, start));
        CHECK(died.ends_with(hold_up ? "announce death" : "answer stop, kept"));
        const auto quiet = names_of(sessions.on(table::proven_quiet{{2}}, start));
        CHECK(quiet.ends_with("forget, answer stop"));
    }
}

TEST_CASE("session_table: a transfer that may still land is the answer to every later stop (I2)") {
    auto sessions = make_table();
    sessions.on(opening(), start);
    sessions.on(table::retired{ours, some(errc::transfer_in_doubt)}, start);
    CHECK(names_of(sessions.on(table::stop_asked{some()}, start)) == "answer stop, kept");
}
