// SPDX-License-Identifier: Apache-2.0
// What comes before its session, driven without actors.
#include "actors/decisions/sending/early_requests.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

constexpr time_point start{};
constexpr rid ours{7};

early_requests make_early(std::size_t requests_max = 8) {
    return early_requests{{"ctx/0", requests_max, 100ms}};
}

early_requests::asked ask(std::uint64_t from = 1, std::uint64_t attempt = 11,
                          std::uint32_t slice = 0, rid request = ours) {
    early_requests::asked result;
    auto& header = result.ask.request.header;
    header.sender = {from};
    header.request = request;
    header.attempt = {attempt};
    header.receive_slice = {slice};
    return result;
}

early_requests::asked renewal() {
    auto result = ask();
    result.ask.request.renewal = true;
    return result;
}

early_requests::asked ask_for_nothing(std::uint64_t from = 1) {
    auto result = ask(from);
    result.ask.request.kv = false;
    return result;
}

early_requests::given_up give_up(errc why = errc::cancelled, bool after_session = false) {
    early_requests::given_up result;
    result.by.cancel.header = ask().ask.request.header;
    result.by.cancel.reason = {why, "given up"};
    result.after_session = after_session;
    return result;
}

std::string shown(const early_requests::effects& all) {
    struct names {
        std::string operator()(const early_requests::bind& x) {
            return x.ask.request.renewal ? "bind a renewal" : "bind";
        }
        std::string operator()(const early_requests::unbind&) { return "unbind"; }
        std::string operator()(const early_requests::answer_gone& x) {
            return "gone " + to_string(code_of(x.why));
        }
        std::string operator()(const early_requests::refuse& x) {
            return "refuse " + to_string(code_of(x.why));
        }
        std::string operator()(const early_requests::count_ignored& x) {
            return x.why == ignored::duplicate ? "count duplicate" : "count no session";
        }
    };
    std::string result;
    for (const auto& each : all)
        result.append(result.empty() ? "" : ", ").append(std::visit(names{}, each));
    return result.empty() ? "-" : result;
}

struct state {
    std::string_view name;
    std::vector<early_requests::event> path;
};

const std::vector<state> states{
    {"empty", {}},
    {"asked", {ask()}},
    {"asked twice", {ask(), ask(2, 12)}},
    {"given up", {give_up()}},
    {"stopped", {early_requests::stopped{make_error(errc::stopped, "over")}}},
};

struct row {
    std::string_view event;
    early_requests::event what;
    /// One for each state.
    std::vector<std::string_view> answers;
};

const std::vector<row> rows{
    {"ask", ask(), {"-", "count duplicate", "count duplicate", "-", "gone stopped"}},
    {"ask, another attempt", ask(1, 99), {"-", "-", "-", "-", "gone stopped"}},
    {"ask for nothing",
     ask_for_nothing(),
     {"-", "count duplicate", "count duplicate", "-", "gone stopped"}},
    {"renew", renewal(), {"gone gone", "-", "-", "gone gone", "gone stopped"}},
    {"give up",
     give_up(),
     {"gone cancelled", "gone cancelled", "gone cancelled", "gone cancelled",
      "count no session, gone cancelled"}},
    {"give up, not selected",
     give_up(errc::not_selected),
     {"count no session, gone not_selected", "gone not_selected", "gone not_selected",
      "gone not_selected", "count no session, gone not_selected"}},
    {"give up, after its session",
     give_up(errc::cancelled, true),
     {"count no session, gone cancelled", "gone cancelled", "gone cancelled", "gone cancelled",
      "count no session, gone cancelled"}},
    {"session opened",
     early_requests::session_opened{ours},
     {"-", "bind", "bind, bind", "unbind", "-"}},
    {"link lost", early_requests::link_lost{{1}}, {"-", "-", "-", "-", "-"}},
    {"lease ends", early_requests::tick{}, {"-", "gone gone", "gone gone, gone gone", "-", "-"}},
    {"stopped",
     early_requests::stopped{make_error(errc::stopped, "over")},
     {"-", "gone stopped", "gone stopped, gone stopped", "-", "-"}},
};

early_requests reach(const state& x) {
    auto result = make_early();
    for (const auto& each : x.path)
        result.on(early_requests::event{each}, start);
    return result;
}

} // namespace

TEST_CASE("early_requests: every state answers every event as written down") {
    std::vector<bool> seen(std::variant_size_v<early_requests::event>);
    for (const auto& [event, what, answers] : rows) {
        CAPTURE(event);
        seen[what.index()] = true;
        REQUIRE(answers.size() == states.size());
        for (std::size_t index = 0; index < states.size(); ++index) {
            CAPTURE(states[index].name);
            CHECK(shown(reach(states[index]).on(early_requests::event{what}, start + 200ms))
                  == answers[index]);
        }
    }
    CHECK(seen == std::vector<bool>(seen.size(), true));
}

TEST_CASE("early_requests: a request renews the lease of its rid; what is swept is answered once") {
    auto early = make_early();
    early.on(ask(), start);
    early.on(renewal(), start + 60ms);
    CHECK(shown(early.on(early_requests::tick{}, start + 100ms)) == "-");
    CHECK(shown(early.on(early_requests::tick{}, start + 160ms)) == "gone gone");
    CHECK(shown(early.on(early_requests::tick{}, start + 900ms)) == "-");
    CHECK(shown(early.on(renewal(), start + 901ms)) == "gone gone");
    CHECK_FALSE(early.leases().next());
}

TEST_CASE("early_requests: a renewed request is bound as if it came for the first time") {
    auto early = make_early();
    early.on(ask(), start);
    early.on(renewal(), start);
    CHECK(shown(early.on(early_requests::session_opened{ours}, start)) == "bind");
}

TEST_CASE("early_requests: room is bounded by name, kept from what wants nothing, and given back "
          "however requests end (I13)") {
    auto early = make_early(4);
    for (std::uint64_t from = 1; from <= 4; ++from)
        CHECK(shown(early.on(ask(from, from, 0, {from}), start)) == "-");
    CHECK(shown(early.on(ask(5), start)) == "refuse limit_exceeded");
    early.on(early_requests::link_lost{{1}}, start);
    early.on(early_requests::session_opened{{2}}, start);
    CHECK(early.requests() == 2);
    CHECK(shown(early.on(ask_for_nothing(6), start)) == "-");
    CHECK(early.requests() == 2); // dropped: half of the room is for others
    early.on(early_requests::tick{}, start + 100ms);
    CHECK(early.requests() == 0);
    CHECK(early.all().empty());
    CHECK_FALSE(early.leases().next());
}

TEST_CASE("early_requests: withdrawals take no more than half of the room, and one of each rank") {
    auto early = make_early(4);
    auto from = [](std::uint64_t rank) {
        auto result = give_up();
        result.by.cancel.header.sender = {rank};
        return result;
    };
    for (auto rank : {1, 1, 2, 3})
        early.on(from(static_cast<std::uint64_t>(rank)), start);
    CHECK(early.withdrawals() == 2);
    CHECK(shown(early.on(early_requests::session_opened{ours}, start)) == "unbind, unbind");
    CHECK(early.withdrawals() == 0);
}

TEST_CASE("early_requests: who asks again takes back what it gave up, others do not") {
    auto early = make_early();
    auto other = give_up();
    other.by.cancel.header.sender = {2};
    early.on(give_up(), start);
    early.on(other, start);
    early.on(ask(), start);
    CHECK(shown(early.on(early_requests::session_opened{ours}, start)) == "bind, unbind");
}

TEST_CASE("early_requests: in every order what is counted is what waits, within the bounds (I13)") {
    std::uint64_t state = 1;
    auto below = [&state](std::uint64_t bound) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        return (state >> 33U) % bound;
    };
    auto early = make_early(6);
    auto now = start;
    for (int step = 0; step < 100000; ++step) {
        now += std::chrono::milliseconds{below(20)};
        const auto from = 1 + below(3);
        auto asked = ask(from, 10 + below(2), static_cast<std::uint32_t>(below(2)), {below(4)});
        asked.ask.request.renewal = below(3) == 0;
        asked.ask.request.kv = below(4) != 0;
        auto given_up = give_up();
        given_up.by.cancel.header = asked.ask.request.header;
        switch (below(8)) {
        case 0:
            early.on(early_requests::session_opened{asked.ask.request.header.request}, now);
            break;
        case 1:
            early.on(early_requests::link_lost{{from}}, now);
            break;
        case 2:
        case 3:
            early.on(early_requests::tick{}, now);
            break;
        case 4:
            early.on(std::move(given_up), now);
            break;
        default:
            early.on(std::move(asked), now);
        }
        std::size_t requests = 0, withdrawals = 0;
        for (const auto& [id, waiting] : early.all()) {
            requests += waiting.requests.size();
            withdrawals += waiting.withdrawals.size();
            REQUIRE(early.leases().of(id).has_value()); // nothing waits for ever (I6)
        }
        REQUIRE(early.requests() == requests);
        REQUIRE(early.withdrawals() == withdrawals);
        REQUIRE(early.leases().size() == early.all().size());
        REQUIRE(requests <= 6);
        REQUIRE(withdrawals <= 3);
    }
}
