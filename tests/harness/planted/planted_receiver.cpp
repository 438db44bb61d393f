// SPDX-License-Identifier: Apache-2.0
// Wrong decisions of a receiver. tests/harness/planted/planted_bugs.cpp says which mistake each
// repeats.
#include "tests/harness/planted/planted_receiver.hpp"

#include "messages/type_ids.hpp"
#include "tests/harness/planted_bug.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvferry::harness {

namespace {

/// What an instance said once is never doubted, even when its ranks are lost.
known_instances::effects believe_for_ever(known_instances& value, known_instances::event x,
                                          time_point now) {
    if (std::holds_alternative<known_instances::rank_lost>(x)
        || std::holds_alternative<known_instances::session_failed>(x))
        return {};
    return value.on(std::move(x), now);
}

receiving_links::effects withdraw_nothing(receiving_links& value, receiving_links::event x,
                                          time_point now) {
    const auto* said = std::get_if<receiving_links::notice>(&x);
    if (said && std::holds_alternative<cancel_session>(said->message))
        return {};
    return value.on(std::move(x), now);
}

bool dials(const receiving_links::effects& all) {
    return std::any_of(all.begin(), all.end(), [](const auto& each) {
        return std::holds_alternative<receiving_links::dial>(each);
    });
}

/// A link that is not dialled again at once is lost as if another process had taken its place.
receiving_links::effects look_for_nobody(receiving_links& value, receiving_links::event x,
                                         time_point now) {
    auto* lost = std::get_if<receiving_links::lost>(&x);
    if (!lost)
        return value.on(std::move(x), now);
    auto tried = value;
    auto right = tried.on(receiving_links::event{x}, now);
    if (dials(right)) {
        value = std::move(tried);
        return right;
    }
    lost->reason = make_error(errc::stale_incarnation, "nobody looks for it");
    value.on(std::move(x), now);
    return right;
}

receiving_after_death::effects death_is_proof(receiving_after_death& value,
                                              receiving_after_death::event x, time_point now) {
    auto result = value.on(std::move(x), now);
    for (const auto& each : value.fixed().writers) {
        auto more = value.on(process_gone{each.process}, now);
        std::move(more.begin(), more.end(), std::back_inserter(result));
    }
    return result;
}

bool answers_stop(const receiving_sessions::effect& x) {
    return std::holds_alternative<receiving_sessions::answer_stop>(x);
}

receiving_sessions::effects answer_at_once(receiving_sessions& value, receiving_sessions::event x,
                                           time_point now) {
    const auto asked = std::holds_alternative<receiving_sessions::stop_asked>(x);
    auto result = value.on(std::move(x), now);
    if (asked && std::none_of(result.begin(), result.end(), answers_stop))
        result.push_back(receiving_sessions::answer_stop{});
    return result;
}

/// Only the first tick reaches sessions.
struct timer_dies {
    bool dead = false;

    receiving_sessions::effects operator()(receiving_sessions& value, receiving_sessions::event x,
                                           time_point now) {
        const auto ticks = std::holds_alternative<receiving_sessions::tick>(x);
        auto result = value.on(std::move(x), now);
        if (ticks && std::exchange(dead, true))
            result.clear();
        return result;
    }
};

/// It waits for the end of its rank, which waits for this answer.
receiving_sessions::effects answer_never(receiving_sessions& value, receiving_sessions::event x,
                                         time_point now) {
    auto result = value.on(std::move(x), now);
    std::erase_if(result, answers_stop);
    return result;
}

} // namespace

void plant_receiver(deciders& in) {
    switch (planted_now) {
    case planted_bug::info_cached_for_ever:
        in.known_instances = believe_for_ever;
        break;
    case planted_bug::withdrawal_not_sent:
        in.receiving_links = withdraw_nothing;
        break;
    case planted_bug::quarantine_not_visited:
        in.receiving_links = look_for_nobody;
        break;
    case planted_bug::release_on_death:
        in.receiving_after_death = death_is_proof;
        break;
    case planted_bug::stop_does_not_wait:
        in.receiving_sessions = answer_at_once;
        break;
    case planted_bug::timer_dies:
        in.receiving_sessions = timer_dies{};
        break;
    case planted_bug::stop_in_a_circle:
        in.receiving_sessions = answer_never;
        break;
    default:
        break;
    }
}

} // namespace kvferry::harness
