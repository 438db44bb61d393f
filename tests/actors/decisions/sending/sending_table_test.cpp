// SPDX-License-Identifier: Apache-2.0
// Every state of a sending session against every event, with the answer that is right.
#include "tests/actors/decisions/sending/sending_table.hpp"
#include "tests/actors/decisions/sending/sending_world.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const peer_view_ptr peer = receiver_view(0);
constexpr receiver_key to{{0}, {0}};

sending_events::piece_planned planned() {
    return {to, {0}, {1}, {route::direct, "direct"}, "fabric_io"};
}

sending_events::piece_ended piece_end(agent_result result = agent_result::success) {
    sending_events::piece_ended end{to, {0}, result};
    if (result != agent_result::success)
        end.why = make_error(errc::transfer_failed, "wire cut");
    return end;
}

peer_lost lost(errc why = errc::link_lost) {
    return {peer->info.incarnation, make_error(why, "no link"), false};
}

cancel_request host_cancel() {
    return {make_error(errc::cancelled, "the host cancelled")};
}

/// A state is what a few events lead to.
struct state {
    std::string_view name;
    aux_mode aux;
    std::vector<sending::event> path;
};

std::vector<state> states() {
    using none = std::vector<sending::event>;
    const sending::event slice = slice_event();
    const sending::event ask = ask_event(peer);
    auto ask_for_aux = ask_event(peer);
    ask_for_aux.ask.request.aux = aux_mode::required;
    const sending::event plan = planned();
    return {
        {"new", aux_mode::none, none{}},
        {"sent, not asked", aux_mode::none, {slice}},
        {"asked, not sent", aux_mode::none, {ask}},
        {"planning", aux_mode::none, {slice, ask}},
        {"moving", aux_mode::none, {slice, ask, plan}},
        {"aux is missing", aux_mode::required, {slice, ask_for_aux, piece_end()}},
        {"receiver left", aux_mode::none, {ask, lost()}},
        {"cancelled, moving", aux_mode::none, {slice, ask, plan, host_cancel()}},
        {"lost, moving", aux_mode::none, {slice, ask, plan, lost()}},
        {"orphaned, moving", aux_mode::none, {slice, ask, plan, owner_ended{}}},
        {"succeeded", aux_mode::none, {slice, ask, plan, piece_end()}},
        {"cancelled", aux_mode::none, {host_cancel()}},
    };
}

struct named_event {
    std::string_view name;
    sending::event what;
};

std::vector<named_event> events() {
    auto refused_ask = ask_event(peer, 1, 1);
    refused_ask.problem = make_error(errc::layout_mismatch, "does not fit");
    auto renewal = ask_event(peer);
    renewal.ask.request.renewal = true;
    auto foreign = ask_event(peer);
    foreign.ask.request.header.attempt = {99};
    auto messages_in_doubt = piece_end(agent_result::in_doubt);
    messages_in_doubt.by_messages = true;
    auto forgotten = gone{header_from(0), side::context, {errc::gone, "unknown"}};
    return {
        {"send", slice_event()},
        {"send aux", send_aux{}},
        {"ask", ask_event(peer)},
        {"ask for another slice", ask_event(peer, 1, 1)},
        {"ask for what does not fit", refused_ask},
        {"ask, another attempt", foreign},
        {"renew", renewal},
        {"planned", planned()},
        {"piece succeeds", piece_end()},
        {"piece fails", piece_end(agent_result::failed)},
        {"piece in doubt", piece_end(agent_result::in_doubt)},
        {"messages in doubt", messages_in_doubt},
        {"give up", give_up_event(peer)},
        {"give up, another attempt", give_up_event(peer, 99)},
        {"gone", forgotten},
        {"link lost", lost()},
        {"link given up", lost(errc::stale_incarnation)},
        {"process gone", process_gone{peer->info.incarnation}},
        {"host cancels", host_cancel()},
        {"host extends", extend_session{std::chrono::seconds{30}}},
        {"deadline", deadline_tick{}},
        {"owner ends", owner_ended{}},
        {"code fails", sending_events::failed{make_error(errc::handler_failed, "thrown")}},
    };
}

sending reach(const state& x) {
    auto result = make_sending(x.aux);
    for (const auto& each : x.path)
        result.on(sending::event{each}, {});
    return result;
}

} // namespace

TEST_CASE("sending: every state answers every event as written down") {
    const auto asked = events();
    REQUIRE(sending_table.size() == asked.size());
    std::set<std::size_t> kinds;
    for (std::size_t index = 0; index < sending_table.size(); ++index) {
        const auto& [name, what] = asked[index];
        CAPTURE(name);
        REQUIRE(sending_table[index].event == name);
        kinds.insert(what.index());
        std::map<std::string_view, std::string_view> answers;
        for (const auto& [in, effects] : sending_table[index].answers)
            for (const auto& state : in)
                CHECK_MESSAGE(answers.emplace(state, effects).second, state << " has two answers");
        CHECK_MESSAGE(answers.size() == states().size(), "an answer for no state");
        for (const auto& from : states()) {
            CAPTURE(from.name);
            REQUIRE_MESSAGE(answers.contains(from.name), "no answer");
            CHECK(shown(reach(from).on(sending::event{what}, {})) == answers.at(from.name));
        }
    }
    CHECK_MESSAGE(kinds.size() == std::variant_size_v<sending::event>, "an event has no row");
}

TEST_CASE("sending: a transfer that is cut short is reported with the reason for that, also to a "
          "receiver that asks again later") {
    auto session = make_sending(aux_mode::none);
    for (const sending::event& each :
         {sending::event{slice_event()}, sending::event{ask_event(peer)}, sending::event{planned()},
          sending::event{lost()}})
        session.on(sending::event{each}, {});
    auto end = piece_end(agent_result::failed);
    end.why = make_error(errc::cancelled, "transfer 1 was cancelled");
    session.on(end, {});
    auto again = ask_event(peer);
    again.ask.request.renewal = true;
    std::vector<errc> reasons;
    for (const auto& effect : session.on(again, {}))
        if (const auto* told = std::get_if<sending_effects::tell_peer>(&effect))
            if (const auto* report = std::get_if<kv_agent_result>(&told->message))
                reasons.push_back(report->error.code);
    CHECK(reasons == std::vector{errc::link_lost});
}

TEST_CASE("sending: that all have asked is told to a host that wants to hear it") {
    const auto told_of = [](bool wanted) {
        sending session{{.request = sent_request,
                         .self = sending_rank(),
                         .aux_bytes_max = 1024,
                         .tell_ready = wanted}};
        return shown(session.on(ask_event(peer), {}));
    };
    CHECK(told_of(true) == "host: ready");
    CHECK(told_of(false) == "-");
}

TEST_CASE("sending: that bytes begin is told ahead of them, unless they are few and bring their "
          "report") {
    const auto told_of = [](std::optional<std::uint64_t> bytes_along) {
        auto session = make_sending(aux_mode::none);
        session.on(slice_event(), {});
        session.on(ask_event(peer), {});
        auto plan = planned();
        if (bytes_along)
            plan.reports_along = {{.bytes = *bytes_along, .fragments = 1}};
        return shown(session.on(plan, {}));
    };
    CHECK(told_of(128 << 10) == "launch 1, host: ready");
    CHECK(told_of((128 << 10) + 1) == "tell 0: transfer_started, launch 1, host: ready");
    CHECK(told_of({}) == "tell 0: transfer_started, launch 1, host: ready");
}
