// SPDX-License-Identifier: Apache-2.0
// Each bug edits what a value is told, or what it answers.
#include "tests/harness/planted/planted_links.hpp"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

namespace kvferry::harness {

namespace {

using link_effects = handshake::effects;
using order_effects = message_order::effects;

template <class Message>
struct says {
    bool operator()(const handshake::effect& x) const {
        const auto* sent = std::get_if<handshake::transmit>(&x);
        return sent && std::holds_alternative<Message>(sent->message);
    }
    bool operator()(const message_order::effect& x) const {
        const auto* sent = std::get_if<message_order::transmit>(&x);
        return sent && std::holds_alternative<Message>(sent->message);
    }
};

/// Whoever accepts a dial takes its link for up without a word of the dialler.
link_effects up_at_once(handshake& link, handshake::event event, time_point now) {
    auto result = link.on(std::move(event), now);
    if (std::none_of(result.begin(), result.end(), says<rank_registered>{}))
        return result;
    for (auto& effect : link.on(handshake::heard{link_health{{}, 0, true}}, now))
        result.push_back(std::move(effect));
    return result;
}

/// A dialler that has given up stays silent.
peer_table::effects no_stray_answered(peer_table& peers, peer_table::event event, time_point now) {
    if (std::holds_alternative<peer_table::stray>(event))
        return {};
    return peers.on(std::move(event), now);
}

/// The link takes its own question for the answer.
link_effects silence_is_an_answer(handshake& link, handshake::event event, time_point now) {
    if (link.is_up() && std::holds_alternative<handshake::looked>(event))
        (void)link.on(handshake::heard{link_health{{}, 0, true}}, now);
    return link.on(std::move(event), now);
}

link_effects always_goodbye(handshake& link, handshake::event event, time_point now) {
    if (auto* told = std::get_if<handshake::told_to_close>(&event))
        told->goodbye = true;
    return link.on(std::move(event), now);
}

stopping::effects all_sessions_vouched_for(stopping& stop, stopping::event event, time_point now) {
    if (auto* ended = std::get_if<stopping::sessions_ended>(&event))
        *ended = {};
    return stop.on(std::move(event), now);
}

link_effects sessions_not_told(handshake& link, handshake::event event, time_point now) {
    auto result = link.on(std::move(event), now);
    std::erase_if(result, [](const handshake::effect& x) {
        return std::holds_alternative<handshake::tell_sessions_of_loss>(x);
    });
    return result;
}

order_effects no_offer(message_order& order, message_order::event event, time_point now) {
    auto result = order.on(std::move(event), now);
    std::erase_if(result, says<offer_regions>{});
    return result;
}

order_effects offer_behind(message_order& order, message_order::event event, time_point now) {
    auto result = order.on(std::move(event), now);
    const auto offer = std::find_if(result.begin(), result.end(), says<offer_regions>{});
    if (offer != result.end() && offer + 1 != result.end())
        std::iter_swap(offer, offer + 1);
    return result;
}

/// Messages are heard in the order in which they come, as often as they come.
order_effects heard_as_they_come(message_order& order, message_order::event event, time_point now) {
    auto* came = std::get_if<message_order::arrived>(&event);
    if (!came || order.is_closed())
        return order.on(std::move(event), now);
    order_effects result;
    result.push_back(message_order::hear{std::move(came->message)});
    return result;
}

/// An answer to any dial is one to the last.
link_effects any_answer_counts(handshake& link, handshake::event event, time_point now) {
    if (auto* came = std::get_if<handshake::arrived>(&event)) {
        if (auto* accepts = std::get_if<rank_registered>(&came->message))
            accepts->dial = link.dial();
        else if (auto* refuses = std::get_if<refused>(&came->message);
                 refuses && refuses->dial != dial_id{})
            refuses->dial = link.dial();
    }
    return link.on(std::move(event), now);
}

peer_table::effects dead_link_not_told(peer_table& peers, peer_table::event event, time_point now) {
    auto result = peers.on(std::move(event), now);
    for (auto& effect : result)
        if (auto* buried = std::get_if<peer_table::bury_link>(&effect))
            buried->counted = false;
    return result;
}

/// A rank that stops may be told to stop again, and nobody looks at the clock.
stopping::effects stops_in_a_circle(stopping& stop, stopping::event event, time_point now) {
    if (std::holds_alternative<stopping::deadline_reached>(event))
        return {};
    if (std::holds_alternative<stopping::told>(event) && stop.begun())
        stop = stopping{};
    return stop.on(std::move(event), now);
}

registration::effects registered_once(registration& value, registration::event event,
                                      time_point now) {
    if (std::holds_alternative<registration::due>(event))
        return {};
    return value.on(std::move(event), now);
}

} // namespace

limits limits_of_servers(planted_bug bug, limits bounds) {
    if (bug == planted_bug::last_words_count)
        bounds.registration_period = std::chrono::hours{24}; // it takes nobody back
    return bounds;
}

void plant_in_links(planted_bug bug, deciders& in) {
    switch (bug) {
    case planted_bug::half_open_links:
        in.handshake = up_at_once;
        in.peer_table = no_stray_answered;
        break;
    case planted_bug::silence_ignored:
        in.handshake = silence_is_an_answer;
        break;
    case planted_bug::stop_vouches_for_the_dead:
        in.handshake = always_goodbye;
        in.stopping = all_sessions_vouched_for;
        break;
    case planted_bug::link_loss_not_told:
        in.handshake = sessions_not_told;
        break;
    case planted_bug::regions_not_offered:
        in.message_order = no_offer;
        break;
    case planted_bug::regions_offered_late:
        in.message_order = offer_behind;
        break;
    case planted_bug::messages_overtake:
    case planted_bug::request_served_twice:
    case planted_bug::reports_counted:
        in.message_order = heard_as_they_come;
        break;
    case planted_bug::former_dial_accepted:
        in.handshake = any_answer_counts;
        break;
    case planted_bug::link_death_not_told:
        in.peer_table = dead_link_not_told;
        break;
    case planted_bug::registered_once:
        in.registration = registered_once;
        break;
    case planted_bug::stop_in_a_circle:
        in.stopping = stops_in_a_circle;
        break;
    default:
        break;
    }
}

} // namespace kvferry::harness
