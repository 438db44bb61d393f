// SPDX-License-Identifier: Apache-2.0
// What a receiver does about instances and links, as known_instances and receiving_links say.
#include "actors/decisions/receiving/receiving_messages.hpp"
#include "actors/generation/receiver.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/worker.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/short_lived.hpp"

#include <utility>

namespace kvferry {

// -- who writes ---------------------------------------------------------------------------------

void receiver_state::perform(known_instances::fetch& x) {
    ask(self_, with_.info_link, fetch_instance_info{x.endpoint, with_.bounds.info_deadline})
        .then(
            [this, endpoint = x.endpoint](instance_info& info) {
                carry(known_instances::answered{endpoint, std::move(info.ranks)});
            },
            [this, endpoint = x.endpoint](const caf::error& reason) {
                carry(known_instances::not_answered{endpoint, reason});
            });
}

/// As its host has carried it here; no ranks: the host wants it forgotten.
void receiver_state::on_add_instance(const add_instance& message) {
    if (message.ranks.empty())
        carry(known_instances::removed{message.endpoint});
    else
        carry(known_instances::answered{message.endpoint, message.ranks});
}

void receiver_state::perform(known_instances::bind_session& x) {
    auto* fresh = sessions_.find(x.attempt);
    if (!fresh)
        return;
    const auto& opened = fresh->opened;
    if (auto problem = check_other_instance(opened.context_endpoint, *x.context))
        return tell(self_, fresh->actor, bind_writers{{}, problem});
    const auto& own = x.own;
    const auto& parties =
        parties_.of(opened.context_endpoint, parties_wanted_by(opened), own, *x.context);
    if (!parties)
        return tell(self_, fresh->actor,
                    bind_writers{{}, add_context(parties.error(), "rid {}", opened.request)});
    fresh->parties = *parties;
    fresh->context = ranks_of(x.context);
    fresh->renewed_at = fresh->kept_at = now();
    watch(x.attempt);
    bind_writers bound{
        fresh->parties->writers, {}, fresh->parties->layers_skipped, fresh->parties->roles_skipped};
    if (with_.sender)
        bind_relay(bound, *fresh->parties, with_.self, *own, *fresh->context, opened.request,
                   opened.aux);
    if (bound.relay) {
        for (const auto& each : bound.relay->from)
            fresh->siblings.push_back((*own)[each.rank.value]);
        fresh->hands_on = bound.relay->hands_on;
    }
    bind_links(x.attempt, *fresh, bound);
    tell(self_, fresh->actor, std::move(bound));
    give_half_to_relay(x.attempt);
}

/// With its writers a session hears which of them it may ask already: it needs no further message
/// where all links are up, as they mostly are.
void receiver_state::bind_links(attempt which, session& fresh, bind_writers& bound) {
    for (auto& effect : decide(
             links_decider_, links_,
             receiving_links::session_bound{which, fresh.writers(), *fresh.context, fresh.siblings},
             now())) {
        if (auto* ready = std::get_if<receiving_links::is_ready>(&effect)) {
            fresh.may_ask(ready->peer->info.incarnation, ready->peer->process_watched);
            bound.linked.push_back(std::move(ready->peer));
        } else
            std::visit([this](auto& x) { perform(x); }, effect);
    }
}

void receiver_state::perform(known_instances::fail_session& x) {
    if (const auto* known = sessions_.find(x.attempt))
        tell(self_, known->actor, bind_writers{{}, x.reason});
}

/// Where the own instance does not answer, its ranks share those of the context: each of them
/// fails.
void receiver_state::perform(known_instances::withdraw& x) {
    const auto context = instances_.answer_of(x.endpoint);
    if (check_other_instance(x.endpoint, *context))
        return;
    const auto& ranks = context->ranks;
    const auto tell_rank = [&](std::size_t rank) {
        notify(ranks[rank],
               cancel_of(x.what.request, x.what.attempt, ranks[rank].rank, x.what.why));
    };
    if (const auto own = ranks_of(instances_.answer_of(with_.own_endpoint))) {
        if (const auto& parties = parties_.of(x.endpoint, x.what.wanted, own, *context)) {
            for (const auto& writer : (*parties)->writers)
                tell_rank(writer.rank.value);
            for (const auto& [group, ranks] : (*parties)->bystanders)
                for (auto rank : ranks)
                    tell_rank(rank.value);
            return;
        }
    }
    for (auto rank = std::size_t{with_.self.rank.value}; rank < ranks.size();
         rank += with_.self.world_size)
        tell_rank(rank);
}

/// A rank that dials itself would wait for itself: a wrong endpoint is told by name.
caf::error receiver_state::check_other_instance(const std::string& endpoint,
                                                instance_answer& answer) const {
    if (parties_.has_self(answer))
        return make_error(errc::invalid_argument,
                          "{} is the endpoint of {} itself: give that of the context instance",
                          endpoint, name_);
    return {};
}

// -- links --------------------------------------------------------------------------------------

void receiver_state::on_peer_ready(const peer_ready& message) {
    const auto process = message.peer->info.incarnation;
    const auto has_answered = message.peer->has_answered;
    if (!has_answered
        && !with_.by_message) // what it may write without an answer, nobody could stop
        return;
    if (has_answered)
        carry(known_instances::rank_linked{process});
    carry(receiving_links::linked{message.peer});
}

void receiver_state::on_peer_lost(const peer_lost& message) {
    carry(receiving_links::lost{message.peer, message.reason});
}

/// Proof needs both: the process is gone, and everything it had sent has been applied.
void receiver_state::on_process_gone(const process_gone& message) {
    ask(self_, with_.fabric, drain_fabric{message.peer})
        .then(
            [this, message] {
                for (auto attempt : links_.sessions_of(message.peer))
                    if (const auto& known = sessions_.at(attempt); !known.is_dead())
                        tell(self_, known.actor, message);
                    else
                        carry_dead(attempt, message);
            },
            [](const caf::error&) {
                // The fabric is gone: nothing can be proven any more, the pages stay on loan.
            });
}

/// The link itself tells peer_ready or peer_lost. An error here means that the worker made no link.
void receiver_state::perform(receiving_links::dial& x) {
    const auto process = x.peer.incarnation;
    ask(self_, with_.worker, connect_peer{std::move(x.peer)})
        .then([](const peer_connected&) {},
              [this, process](const caf::error& reason) {
                  on_peer_lost(peer_lost{process, reason});
              });
}

void receiver_state::perform(receiving_links::send& x) {
    send_to(x.peer, std::move(x.message));
}

/// Remembers, in case a session dies, what its writers may be told.
void receiver_state::perform(receiving_links::tell_ready& x) {
    const auto process = x.peer->info.incarnation;
    for (auto attempt : x.sessions) {
        auto* known = sessions_.find(attempt);
        if (!known)
            continue;
        if (known->is_dead()) {
            carry_dead(attempt, receiving_after_death::writer_linked{process});
            continue;
        }
        known->may_ask(process, x.peer->process_watched);
        tell(self_, known->actor, peer_ready{x.peer});
    }
}

/// Most of them end of it, and what they are lies in no cache: it is brought near for all of them
/// before the first one runs.
void receiver_state::perform(receiving_links::tell_lost& x) {
    recycled_vector<const session*> concerned;
    concerned.reserve(x.sessions.size());
    for (auto attempt : x.sessions) {
        if (const auto* known = sessions_.fetch_ahead(attempt))
            concerned.push_back(known);
        links_.fetch_ahead(attempt);
    }
    for (const auto* known : concerned) {
        fetch_ahead<rx_session_state>(known->actor);
        sessions_.fetch_ahead_actor(*known);
    }
    for (const auto* known : concerned)
        tell(self_, known->actor, x.news);
}

void receiver_state::perform(receiving_links::link_over& x) {
    carry(known_instances::rank_lost{x.peer, x.never_up});
}

void receiver_state::notify(const rank_info& to, wire_message message) {
    carry(receiving_links::notice{&to, std::move(message)});
}

/// Over its link, if it has one.
void receiver_state::send_to(incarnation peer, wire_message message) {
    if (const auto view = links_.view_of(peer))
        tell(self_, view->link, send_message{std::move(message)});
}

} // namespace kvferry
