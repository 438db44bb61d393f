// SPDX-License-Identifier: Apache-2.0
// Each bug is a wrong decision: it changes events before the right value sees them, or its effects
// afterwards. tests/harness/planted/planted_bugs.cpp says which mistake each repeats.
#include "tests/harness/planted/planted_sending.hpp"

#include "tests/harness/planted/wrong_decider.hpp"
#include "tests/harness/planted_bug.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace kvferry::harness {

namespace {

using namespace sending_effects;
using event = sending::event;
using effects = sending::effects;

/// What a peer is told, or null.
template <class Message>
Message* told_peer(sending::effect& x) {
    auto* told = std::get_if<tell_peer>(&x);
    return told ? std::get_if<Message>(&told->message) : nullptr;
}

/// What the host is told, or null.
template <class Message>
Message* told_host(sending::effect& x) {
    auto* told = std::get_if<tell_host>(&x);
    return told ? std::get_if<Message>(&told->message) : nullptr;
}

// -- a sending session --------------------------------------------------------------------------

decider<sending> reports(void (*spoil)(kv_agent_result&)) {
    return afterwards<sending>([spoil](effects& all) {
        for (auto& each : all)
            if (auto* report = told_peer<kv_agent_result>(each))
                spoil(*report);
    });
}

decider<sending> requests(void (*spoil)(request_data&)) {
    return beforehand<sending>([spoil](event& x) {
        if (auto* asked = std::get_if<sending_events::asked>(&x))
            spoil(asked->ask.request);
    });
}

bool tells_of_failure(sending::effect& x) {
    const auto* report = told_peer<kv_agent_result>(x);
    return told_peer<cancel_session>(x) || (report && report->result == agent_result::failed);
}

effects foreign_attempt_ignored(sending& value, event x, time_point now) {
    if (const auto* asked = std::get_if<sending_events::asked>(&x)) {
        const auto bound = value.attempt_of(asked->ask.peer->info.rank);
        if (bound && *bound != asked->ask.request.header.attempt)
            return {};
    }
    return value.on(std::move(x), now);
}

void implied_block_start(effects& all) {
    for (auto& each : all)
        if (auto* plan = std::get_if<plan_piece>(&each)) {
            auto request = *plan->request;
            const auto& source = plan->source->slice.groups;
            for (auto& group : request.target.groups)
                group.first_block = source.empty() ? 0 : source[0].first_block;
            plan->request = std::make_shared<const request_data>(std::move(request));
        }
}

void piece_told_twice(effects& all) {
    for (std::size_t index = 0; index < all.size(); ++index)
        if (const auto* piece = told_host<piece_finished>(all[index]);
            piece && piece->kind == payload_kind::kv && !piece->error)
            all.insert(all.begin() + static_cast<std::ptrdiff_t>(index++), tell_host{*piece});
}

effects report_before_visible(sending& value, event x, time_point now) {
    sending_events::piece_ended end;
    if (const auto* planned = std::get_if<sending_events::piece_planned>(&x))
        end = {planned->to, planned->index};
    auto result = value.on(std::move(x), now);
    const auto launches = std::any_of(result.begin(), result.end(), [](const auto& each) {
        return std::holds_alternative<launch_piece>(each);
    });
    if (launches)
        append(result, value.on(std::move(end), now));
    return result;
}

/// Released when it has its outcome; let go of, it ends, whatever is under way.
struct pages_back_while_read {
    bool given_back = false;

    effects operator()(sending& value, event x, time_point now) {
        if (given_back && std::holds_alternative<deadline_tick>(x))
            return {quit{}};
        auto result = value.on(std::move(x), now);
        if (given_back)
            std::erase_if(result, [](auto& each) {
                const auto* owner = std::get_if<tell_owner>(&each);
                return told_host<session_released>(each)
                       || (owner && std::holds_alternative<session_retired>(owner->message));
            });
        const auto ended = std::find_if(result.begin(), result.end(), [](auto& each) {
            return told_host<session_finished>(each) != nullptr;
        });
        if (ended == result.end() || value.is_released())
            return result;
        given_back = true;
        const auto end = *told_host<session_finished>(*ended);
        result.emplace_back(tell_host{session_released{side::context, end.request, {}}});
        result.emplace_back(tell_owner{session_retired{end.request, {}, end.error}});
        return result;
    }
};

/// What was planned when the request came again is reported twice.
struct request_served_twice {
    std::map<receiver_key, std::vector<kv_agent_result>> told;
    std::map<receiver_key, std::uint32_t> again;

    static receiver_key key_of(const tell_peer& x, const message_header& header) {
        return {x.peer->info.rank, header.receive_slice};
    }

    effects operator()(sending& value, event x, time_point now) {
        effects result;
        if (const auto* asked = std::get_if<sending_events::asked>(&x)) {
            const auto& header = asked->ask.request.header;
            const receiver_key key{asked->ask.peer->info.rank, header.receive_slice};
            const auto* known = value.find(key);
            if (known && !known->is_lost() && value.attempt_of(key.first) == header.attempt) {
                for (const auto& report : told[key])
                    result.push_back(tell_peer{asked->ask.peer, report});
                again[key] = known->dispatched();
            }
        }
        for (auto& each : value.on(std::move(x), now)) {
            result.push_back(each);
            const auto* report = told_peer<kv_agent_result>(each);
            if (!report)
                continue;
            const auto key = key_of(std::get<tell_peer>(each), report->header);
            told[key].push_back(*report);
            if (report->header.piece.index.value < again[key])
                result.push_back(each);
        }
        return result;
    }
};

effects cancel_ping_pong(sending& value, event x, time_point now) {
    effects result;
    if (const auto* unbind = std::get_if<unbind_receiver>(&x);
        unbind && value.attempt_of(unbind->peer->info.rank) == unbind->cancel.header.attempt)
        result.push_back(
            tell_peer{unbind->peer, cancel_session{unbind->cancel.header, side::generation,
                                                   unbind->cancel.reason}});
    append(result, value.on(std::move(x), now));
    return result;
}

decider<sending> wrong_session() {
    switch (planted_now) {
    case planted_bug::slice_id_dropped:
        return reports([](kv_agent_result& x) { x.header.receive_slice = {0}; });
    case planted_bug::doubt_by_messages_said:
        return reports(
            [](kv_agent_result& x) { x.by_messages = x.result == agent_result::in_doubt; });
    case planted_bug::lost_report:
        return without<sending>([](sending::effect& x) {
            const auto* report = told_peer<kv_agent_result>(x);
            return report && report->header.piece.index.value == 1;
        });
    case planted_bug::failure_not_told:
        return without<sending>(tells_of_failure);
    case planted_bug::refusal_not_sent:
        return without<sending>(
            [](sending::effect& x) { return told_peer<refused>(x) != nullptr; });
    case planted_bug::forgotten_request_served:
        return requests([](request_data& x) { x.renewal = false; });
    case planted_bug::one_receiver_is_all:
        return requests([](request_data& x) { x.receivers.clear(); });
    case planted_bug::foreign_attempt_ignored:
        return foreign_attempt_ignored;
    case planted_bug::implied_block_start:
        return afterwards<sending>(implied_block_start);
    case planted_bug::piece_told_twice:
        return afterwards<sending>(piece_told_twice);
    case planted_bug::report_before_visible:
        return report_before_visible;
    case planted_bug::pages_back_while_read:
        return pages_back_while_read{};
    case planted_bug::request_served_twice:
        return request_served_twice{};
    case planted_bug::cancel_ping_pong:
        return cancel_ping_pong;
    default:
        return {};
    }
}

// -- the sender ---------------------------------------------------------------------------------

sending_sessions::effects release_on_death(sending_sessions& value, sending_sessions::event x,
                                           time_point now) {
    const auto* died = std::get_if<sending_sessions::died>(&x);
    const auto key = died ? died->key : rid{};
    auto result = value.on(std::move(x), now);
    if (died && value.find(key))
        result.push_back(sending_sessions::tell_released{key, *value.find(key)});
    return result;
}

/// Only the first tick reaches sessions.
struct timer_dies {
    bool dead = false;

    sending_sessions::effects operator()(sending_sessions& value, sending_sessions::event x,
                                         time_point now) {
        const auto ticks = std::holds_alternative<sending_sessions::tick>(x);
        auto result = value.on(std::move(x), now);
        if (ticks && std::exchange(dead, true))
            result.clear();
        return result;
    }
};

decider<sending_sessions> wrong_table() {
    switch (planted_now) {
    case planted_bug::timer_dies:
        return timer_dies{};
    case planted_bug::rid_taken_over:
        return without<sending_sessions>([](sending_sessions::effect& x) {
            const auto* refusal = std::get_if<sending_sessions::refuse>(&x);
            return refusal && code_of(refusal->why) == errc::duplicate;
        });
    case planted_bug::goodbye_in_doubt:
        return beforehand<sending_sessions>([](sending_sessions::event& x) {
            if (auto* retired = std::get_if<sending_sessions::retired>(&x))
                retired->undecided = {};
        });
    case planted_bug::release_on_death:
        return release_on_death;
    default:
        return {};
    }
}

decider<sending_memory> wrong_memory() {
    switch (planted_now) {
    case planted_bug::gone_after_death:
        return beforehand<sending_memory>([](sending_memory::event& x) {
            if (auto* died = std::get_if<sending_memory::died>(&x))
                died->asked = {};
        });
    case planted_bug::gone_not_answered:
        return without<sending_memory>([](sending_memory::effect& x) {
            const auto* told = std::get_if<sending_memory::tell_peer>(&x);
            return told && std::holds_alternative<gone>(told->message);
        });
    default:
        return {};
    }
}

early_requests::effects sweep_without_answer(early_requests& value, early_requests::event x,
                                             time_point now) {
    const auto* asked = std::get_if<early_requests::asked>(&x);
    const auto silent =
        std::holds_alternative<early_requests::tick>(x) || (asked && asked->ask.request.renewal);
    auto result = value.on(std::move(x), now);
    if (silent)
        std::erase_if(result, [](const auto& each) {
            return std::holds_alternative<early_requests::answer_gone>(each);
        });
    return result;
}

decider<early_requests> wrong_early_requests() {
    switch (planted_now) {
    case planted_bug::early_request_forgotten:
        return without<early_requests>([](const early_requests::effect& x) {
            return std::holds_alternative<early_requests::bind>(x);
        });
    case planted_bug::withdrawal_forgotten:
        return without<early_requests>([](const early_requests::effect& x) {
            return std::holds_alternative<early_requests::unbind>(x);
        });
    case planted_bug::sweep_without_answer:
        return sweep_without_answer;
    default:
        return {};
    }
}

} // namespace

void plant_sending(deciders& x) {
    x.sending = wrong_session();
    x.sending_sessions = wrong_table();
    x.sending_memory = wrong_memory();
    x.early_requests = wrong_early_requests();
}

} // namespace kvferry::harness
