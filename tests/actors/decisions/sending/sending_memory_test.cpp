// SPDX-License-Identifier: Apache-2.0
// What is left of sending sessions, driven without actors.
#include "actors/decisions/sending/sending_memory.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

constexpr time_point start{};
constexpr rid ours{7};

message_header header(std::uint64_t attempt = 11, std::uint64_t from = 1) {
    message_header result;
    result.sender = {from};
    result.request = ours;
    result.attempt = {attempt};
    result.kind = payload_kind::kv;
    return result;
}

sending_memory::asked ask(std::uint64_t attempt = 11, bool kv = true, bool served = false) {
    sending_memory::asked result;
    result.served = served;
    result.ask.request.header = header(attempt);
    result.ask.request.kv = kv;
    return result;
}

sending_memory::given_up give_up(std::uint64_t attempt = 11, bool served = false) {
    sending_memory::given_up result;
    result.by.cancel.header = header(attempt);
    result.by.cancel.reason = {errc::cancelled, "given up"};
    result.served = served;
    return result;
}

sending_memory::retired retired(errc why = errc::none, bool in_doubt = false) {
    sending_memory::retired result{ours, {}, {{{1}, {11}}}};
    if (why != errc::none)
        result.why = make_error(why, "ended");
    if (in_doubt)
        result.in_doubt = {false, result.why};
    return result;
}

sending_memory::died died(bool outcome_told = false) {
    sending_requests asked;
    asked.add(header());
    return {ours, make_error(errc::handler_failed, "died"), asked, outcome_told};
}

std::string shown(const sending_memory::effects& all) {
    struct names {
        std::string operator()(const sending_memory::tell_peer& x) {
            if (const auto* answer = std::get_if<gone>(&x.message))
                return "gone " + to_string(answer->reason.code);
            if (const auto* report = std::get_if<kv_agent_result>(&x.message))
                return to_string(report->result);
            return std::string{name_of(x.message)};
        }
        std::string operator()(const sending_memory::keep_early&) { return "keep"; }
        std::string operator()(const sending_memory::give_up_early& x) {
            return x.after_session ? "give up after" : "give up";
        }
        std::string operator()(const sending_memory::bind&) { return "bind"; }
        std::string operator()(const sending_memory::unbind&) { return "unbind"; }
        std::string operator()(const sending_memory::count_ignored&) { return "count"; }
    };
    std::string result;
    for (const auto& each : all)
        result.append(result.empty() ? "" : ", ").append(std::visit(names{}, each));
    return result.empty() ? "-" : result;
}

struct state {
    std::string_view name;
    std::vector<sending_memory::event> path;
};

const std::vector<state> states{
    {"nothing", {}},
    {"served", {retired()}},
    {"failed", {retired(errc::peer_gone)}},
    {"in doubt", {retired(errc::transfer_failed, true)}},
    {"died", {died()}},
    {"opened again", {retired(), sending_memory::opened{ours}}},
    {"opened again after it failed", {retired(errc::peer_gone), sending_memory::opened{ours}}},
};

struct row {
    std::string_view event;
    sending_memory::event what;
    /// One for each state.
    std::vector<std::string_view> answers;
};

const std::vector<row> rows{
    {"ask",
     ask(),
     {"keep", "gone gone", "gone peer_gone", "IN_DOUBT", "count, IN_DOUBT", "gone gone",
      "gone peer_gone"}},
    {"ask for aux only",
     ask(11, false),
     {"keep", "gone gone", "gone peer_gone", "IN_DOUBT", "count, cancel_session", "gone gone",
      "gone peer_gone"}},
    {"ask, session lives",
     ask(11, true, true),
     {"bind", "bind", "bind", "bind", "bind", "gone gone", "gone peer_gone"}},
    {"ask, session lives, another attempt",
     ask(12, true, true),
     {"bind", "bind", "bind", "bind", "bind", "bind", "bind"}},
    {"ask, another attempt",
     ask(99),
     {"keep", "keep", "keep", "keep", "gone handler_failed", "keep", "keep"}},
    {"give up",
     give_up(),
     {"give up", "give up after", "give up after", "give up after", "count, IN_DOUBT", "give up",
      "give up"}},
    {"give up, another attempt",
     give_up(99),
     {"give up", "give up after", "give up after", "give up after", "gone handler_failed",
      "give up", "give up"}},
    {"give up, session lives",
     give_up(11, true),
     {"unbind", "unbind", "unbind", "unbind", "unbind", "gone cancelled", "gone cancelled"}},
    {"not served",
     sending_memory::not_served{header(), make_error(errc::gone, "swept")},
     {"gone gone", "gone gone", "gone gone", "IN_DOUBT", "gone gone", "gone gone", "gone gone"}},
    {"opened", sending_memory::opened{ours}, {"-", "-", "-", "-", "-", "-", "-"}},
    {"retired", retired(), {"-", "-", "-", "-", "-", "-", "-"}},
    {"died",
     died(),
     {"cancel_session, IN_DOUBT", "cancel_session, IN_DOUBT", "cancel_session, IN_DOUBT",
      "cancel_session, IN_DOUBT", "cancel_session, IN_DOUBT", "cancel_session, IN_DOUBT",
      "cancel_session, IN_DOUBT"}},
    {"lease ends", sending_memory::tick{}, {"-", "-", "-", "-", "-", "-", "-"}},
};

sending_memory make_memory(std::size_t endings_max = 8) {
    return sending_memory{{{3}, endings_max, 100ms}};
}

sending_memory reach(const state& x) {
    auto result = make_memory();
    for (const auto& each : x.path)
        result.on(sending_memory::event{each}, start);
    return result;
}

} // namespace

TEST_CASE("sending_memory: every state answers every event as written down") {
    std::vector<bool> seen(std::variant_size_v<sending_memory::event>);
    for (const auto& [event, what, answers] : rows) {
        CAPTURE(event);
        seen[what.index()] = true;
        REQUIRE(answers.size() == states.size());
        for (std::size_t index = 0; index < states.size(); ++index) {
            CAPTURE(states[index].name);
            CHECK(shown(reach(states[index]).on(sending_memory::event{what}, start))
                  == answers[index]);
        }
    }
    CHECK(seen == std::vector<bool>(seen.size(), true));
}

TEST_CASE(
    "sending_memory: an ending is remembered for one lease, doubt until the process ends (I2)") {
    auto memory = make_memory();
    memory.on(retired(errc::peer_gone, true), start);
    CHECK(shown(memory.on(ask(), start + 99ms)) == "IN_DOUBT");
    memory.on(sending_memory::tick{}, start + 100ms);
    CHECK(shown(memory.on(ask(), start + 101ms)) == "keep");
    const auto cancelled = make_error(errc::cancelled, "given up");
    CHECK(shown(memory.on(sending_memory::not_served{header(), cancelled}, start)) == "IN_DOUBT");
    CHECK_FALSE(memory.leases().next());
}

TEST_CASE("sending_memory: after a failure the first attempt of a rank is told of it, the next one "
          "begins anew") {
    auto memory = make_memory();
    memory.on(sending_memory::retired{ours, make_error(errc::cancelled, "ended"), {}}, start);
    CHECK(shown(memory.on(ask(11), start)) == "gone cancelled");
    CHECK(shown(memory.on(ask(11), start)) == "gone cancelled");
    CHECK(shown(memory.on(ask(12), start)) == "keep");
}

TEST_CASE(
    "sending_memory: endings are bounded, and failures have twice the room of successes (I13)") {
    auto memory = make_memory(4);
    auto end = [&memory](std::uint64_t request, errc why) {
        auto each = retired(why);
        each.request = {request};
        memory.on(std::move(each), start);
    };
    for (std::uint64_t request = 1; request <= 9; ++request)
        end(request, errc::none);
    auto asks = [&memory](std::uint64_t request) {
        auto each = ask();
        each.ask.request.header.request = {request};
        return shown(memory.on(each, start));
    };
    CHECK(asks(2) == "gone gone");
    CHECK(asks(3) == "keep");
    end(20, errc::peer_gone);
    end(21, errc::peer_gone);
    end(22, errc::peer_gone);
    CHECK(asks(21) == "gone peer_gone");
    CHECK(asks(22) == "keep");
}

TEST_CASE("sending_memory: a dead session's receivers hear of it once for each slice") {
    sending_requests asked;
    CHECK(asked.add(header()));
    CHECK_FALSE(asked.add(header())); // again
    CHECK_FALSE(asked.add(header(99)));
    auto second = header();
    second.receive_slice = {1};
    CHECK_FALSE(asked.add(second));
    CHECK(asked.headers.size() == 2);
    CHECK(asked.may_serve(header()));
    CHECK_FALSE(asked.may_serve(header(99)));
    auto memory = make_memory();
    CHECK(shown(memory.on(
              sending_memory::died{ours, make_error(errc::handler_failed, ""), asked, true}, start))
          == "IN_DOUBT, IN_DOUBT");
}
