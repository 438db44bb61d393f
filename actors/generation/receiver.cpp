// SPDX-License-Identifier: Apache-2.0
// Between a receiver's messages and the values that decide.
#include "actors/generation/receiver.hpp"

#include "actors/decisions/receiving/receiving_messages.hpp"
#include "actors/generation/rx_session.hpp"
#include "actors/shared/collect_status.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/short_lived.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

receiver_state::receiver_state(receiver_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), random_(with_.seed),
      sessions_({.name = "receiving session",
                 .sessions_max = with_.bounds.sessions_max,
                 .dead_hold_up_a_stop = true,
                 .age_max = with_.bounds.session_age_max}),
      instances_({.own_endpoint = with_.own_endpoint,
                  .age_min = with_.bounds.info_age_min,
                  .withdrawals_max = with_.bounds.pending_per_link_max,
                  .seed = random_()}),
      links_({.notices_max = with_.bounds.pending_per_link_max,
              .silence_max = with_.bounds.link_patience
                             + 2 * clock::duration{with_.bounds.link_health_interval},
              .seed = random_()}),
      parties_(with_.self), name_(describe(with_.self)) {
    sessions_environment_ = std::make_shared<const rx_environment>(rx_environment{
        .home = with_.home,
        .aux_bytes_max = with_.bounds.aux_bytes_max,
        .self = name_,
        .checker = with_.checker,
        .counters = with_.counters,
        .fabric = with_.fabric,
        .by_message = with_.by_message,
        .deciders = with_.deciders,
        .pages = with_.self.pages ? std::make_shared<const page_table>(*with_.self.pages) : nullptr,
        .sender = with_.sender});
    if (with_.deciders) {
        sessions_decider_ = with_.deciders->receiving_sessions;
        instances_decider_ = with_.deciders->known_instances;
        links_decider_ = with_.deciders->receiving_links;
        after_death_decider_ = with_.deciders->receiving_after_death;
    }
    self_->set_down_handler([this](const caf::down_msg& down) { on_down(down); });
}

receiver_state::~receiver_state() {
    for (const auto& [id, session] : sessions_)
        tell_from_outside(session.actor, owner_ended{});
}

receiver_actor::behavior_type receiver_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &receiver_state::on_open),
        handle(this, &receiver_state::on_message<kv_agent_result>),
        handle(this, &receiver_state::on_message<transfer_started>),
        handle(this, &receiver_state::on_transferring),
        handle(this, &receiver_state::on_ended),
        handle(this, &receiver_state::on_retired),
        handle(this, &receiver_state::on_peer_ready),
        handle(this, &receiver_state::on_peer_lost),
        handle(this, &receiver_state::on_process_gone),
        handle(this, &receiver_state::on_message<aux_agent_result>),
        handle(this, &receiver_state::on_message<cancel_session>),
        handle(this, &receiver_state::on_gone),
        handle(this, &receiver_state::on_message<refused>),
        handle(this, &receiver_state::on_extended),
        handle(this, &receiver_state::on_add_instance),
        handle(this, &receiver_state::on_deadline),
        handle(this, &receiver_state::on_list),
        handle(this, &receiver_state::on_drain),
        handle(this, &receiver_state::on_cancel_all),
    };
}

/// While one lives, decisions follow from each other.
struct receiver_state::carrier_here {
    explicit carrier_here(receiver_state& of) : of(of) { ++of.carrying_; }
    carrier_here(const carrier_here&) = delete;
    ~carrier_here() noexcept(false) {
        if (--of.carrying_ == 0)
            of.rearm();
    }

    receiver_state& of;
};

template <class Value>
void receiver_state::apply(const decider<Value>& by, Value& value, typename Value::event&& event) {
    const carrier_here here{*this};
    for (auto& effect : decide(by, value, std::move(event), now()))
        std::visit([this](auto& x) { this->perform(x); }, effect);
}

void receiver_state::carry(receiving_sessions::event&& event) {
    apply(sessions_decider_, sessions_, std::move(event));
}

void receiver_state::carry(known_instances::event&& event) {
    apply(instances_decider_, instances_, std::move(event));
}

void receiver_state::carry(receiving_links::event&& event) {
    apply(links_decider_, links_, std::move(event));
}

// -- sessions -----------------------------------------------------------------------------------

caf::result<rx_opened> receiver_state::on_open(open_rx& ask) {
    const carrier_here here{*this};
    const attempt attempt{random_()};
    for (auto& effect : decide(sessions_decider_, sessions_,
                               receiving_sessions::open_asked{attempt, ask.request}, now()))
        if (const auto* no = std::get_if<receiving_sessions::refuse>(&effect))
            return no->why;
    if (links_.has_notices_of(ask.request))
        carry(receiving_links::request_opened{ask.request});
    auto actor = spawn_short_lived<rx_session_actor, rx_session_state>(
        self_->system(), with_.home,
        rx_session_state::dependencies{.environment = sessions_environment_,
                                       .owner = self_,
                                       .observer = ask.observer,
                                       .request = ask.request,
                                       .attempt = attempt,
                                       .aux = ask.aux,
                                       .context_endpoint = ask.context_endpoint,
                                       .tell_layers = ask.tell_layers,
                                       .traceparent = ask.traceparent,
                                       .deadline = ask.deadline,
                                       .transfer_deadline = ask.transfer_deadline,
                                       .urgency = ask.urgency.value_or(priority::normal),
                                       .tell_owner_of_death = true,
                                       .tell_observer_of_death = ask.tell_death});
    known_instances::session_opened needs{attempt, ask.request, ask.context_endpoint};
    const auto deadline = ask.deadline;
    const auto transfer_deadline = ask.transfer_deadline;
    carry(receiving_sessions::opened{attempt, actor.id(), deadline, transfer_deadline,
                                     receiving_session{.actor = actor, .opened = std::move(ask)}});
    carry(std::move(needs));
    return rx_opened{std::move(actor), attempt};
}

/// To the session of its attempt. Whose report is for none is told so; what else comes late is what
/// was asked for, or is followed by a report.
template <class Message>
void receiver_state::on_message(Message& message) {
    constexpr auto is_report =
        std::is_same_v<Message, kv_agent_result> || std::is_same_v<Message, aux_agent_result>;
    const auto& header = message.header;
    if (const auto* known = sessions_.find(header.attempt)) {
        if (known->is_dead())
            return count(with_.counters, ignored::session_died);
        return tell(self_, known->actor, std::move(message));
    }
    if constexpr (!std::is_same_v<Message, transfer_started>) // its report may have overtaken it
        count(with_.counters, ignored::no_session);
    if constexpr (is_report)
        send_to(header.sender, gone{header, side::context,
                                    to_wire(make_error(errc::gone, "{} has no attempt {} of rid {}",
                                                       name_, header.attempt, header.request))});
}

void receiver_state::on_gone(gone& message) {
    const auto header = message.header;
    on_message(message);
    const auto answers_a_cancel = header.kind == payload_kind::none;
    if (answers_a_cancel)
        carry_dead(header.attempt, receiving_after_death::writer_forgot{header.sender});
}

void receiver_state::on_extended(const session_extended& message) {
    carry(receiving_sessions::extended{message.attempt, message.by});
    give_half_to_relay(message.attempt);
}

void receiver_state::on_transferring(const session_transferring& message) {
    carry(receiving_sessions::first_piece_began{message.attempt});
    give_half_to_relay(message.attempt);
    tell_bystanders(message);
}

/// The other DP groups of the context are not needed.
void receiver_state::tell_bystanders(const session_transferring& message) {
    auto* known = sessions_.find(message.attempt);
    if (!known || known->is_dead())
        return;
    known->runs_on = message.context_dp_rank;
    const auto group = known->parties->bystanders.find(message.context_dp_rank);
    if (group == known->parties->bystanders.end())
        return;
    for (auto rank : group->second)
        notify((*known->context)[rank.value],
               request_for_nothing(known->opened.request, message.attempt, rank, with_.self.rank));
}

void receiver_state::on_ended(const session_ended& message) {
    auto* known = sessions_.find(message.attempt);
    if (!known)
        return;
    const carrier_here here{*this};
    carry(receiving_sessions::outcome_told{message.attempt,
                                           message.reason ? code_of(message.reason) : errc::none});
    carry(receiving_links::session_ended{message.attempt});
    relays_.erase(message.attempt);
    if (!message.reason) {
        for (const auto& writer : known->writers())
            if (std::find(message.relayed.begin(), message.relayed.end(), writer.rank)
                != message.relayed.end())
                notify((*known->context)[writer.rank.value],
                       request_for_relayed(known->opened.request, message.attempt, writer.rank,
                                           message.relayed_as, writer.receivers));
        if (known->hands_on)
            relays_.set(message.attempt, now() + with_.bounds.relay_patience);
        return;
    }
    withdraw(message.attempt, *known, message.reason, message.untold);
    if (code_of(message.reason) != errc::cancelled)
        carry(known_instances::session_failed{known->opened.context_endpoint});
}

void receiver_state::on_retired(const session_retired& message) {
    const carrier_here here{*this};
    if (message.begun) // its other clock has not to begin any more
        tell_bystanders(*message.begun);
    if (message.ended)
        on_ended(*message.ended);
    carry(receiving_sessions::retired{message.attempt});
}

void receiver_state::on_down(const caf::down_msg& down) {
    const auto known = sessions_.session_of(down.source.id());
    if (!known)
        return;
    const auto& dying = sessions_.at(*known);
    carry(receiving_sessions::died{
        *known,
        make_error(errc::handler_failed, "rid {}, attempt {}: its rx_session on {} died ({})",
                   dying.opened.request, *known, name_, to_string(down.reason))});
}

void receiver_state::stop_waiting(attempt over) {
    relays_.erase(over);
    carry(known_instances::session_left{over});
}

void receiver_state::perform(receiving_sessions::forget& x) {
    relays_.erase(x.key);
    if (!x.last.parties)
        carry(known_instances::session_left{x.key});
    carry(receiving_links::session_forgotten{x.key});
}

void receiver_state::perform(receiving_sessions::count& x) {
    count_session(with_.counters, side::generation, x.what);
}

void receiver_state::perform(receiving_sessions::count_outcome& x) {
    count_session(with_.counters, side::generation, session_count::ended);
    kvferry::count_outcome(with_.counters, side::generation, x.why, x.waited, x.transferred);
}

void receiver_state::perform(receiving_sessions::count_death&) {
    kvferry::count_death(with_.counters);
}

void receiver_state::perform(receiving_sessions::tell_deadline& x) {
    if (const auto* known = sessions_.find(x.key))
        tell(self_, known->actor, deadline_tick{});
}

void receiver_state::perform(receiving_sessions::tell_released& x) {
    tell(self_, x.data.opened.observer,
         session_released{side::generation, x.data.opened.request, x.key});
}

/// Without parties nobody knows yet who waits for the session.
void receiver_state::withdraw(attempt attempt, const session& failed, const caf::error& why,
                              const std::vector<rank_id>& untold) {
    const auto& opened = failed.opened;
    const auto request = opened.request;
    if (!failed.parties)
        return carry(known_instances::session_withdrawn{
            opened.context_endpoint, {request, attempt, why, parties_wanted_by(opened)}});
    const auto tell_rank = [&](rank_id rank) {
        notify((*failed.context)[rank.value], cancel_of(request, attempt, rank, why));
    };
    std::for_each(untold.begin(), untold.end(), tell_rank);
    for (const auto& [group, ranks] : failed.parties->bystanders)
        if (!failed.runs_on || *failed.runs_on == group)
            std::for_each(ranks.begin(), ranks.end(), tell_rank);
}

// -- the death of a session ---------------------------------------------------------------------

void receiver_state::perform(receiving_sessions::announce_death& x) {
    auto& dead = sessions_.at(x.key);
    logger().error("{}; its pages stay on loan until all of its writers are proven gone",
                   describe(dead.death()));
    stop_waiting(x.key);
    carry(receiving_links::session_died{x.key});
    if (!x.outcome_told) {
        session_finished told;
        told.role = side::generation;
        told.request = dead.opened.request;
        told.attempt = x.key;
        told.state = session_state::error;
        told.error = dead.death();
        tell(self_, dead.opened.observer, std::move(told));
    }
    receiving_after_death::facts known{x.key, {}, x.outcome_told, with_.by_message};
    const auto add = [&](rank_id rank, incarnation process, bool kv, bool sibling) {
        const auto* asked = dead.asked(process);
        known.writers.push_back(
            {rank, process, kv, asked != nullptr, asked && asked->may_map, sibling});
    };
    for (const auto& each : dead.writers())
        add(each.rank, each.incarnation, each.kv, false);
    for (const auto& each : dead.siblings)
        add(each.rank, each.incarnation, true, true);
    dead.after_death = std::make_shared<receiving_after_death>(std::move(known));
    carry_dead(x.key, receiving_after_death::session_died{});
}

void receiver_state::carry_dead(attempt over, receiving_after_death::event event) {
    auto* dead = sessions_.find(over);
    if (!dead || !dead->after_death)
        return;
    for (auto& effect : decide(after_death_decider_, *dead->after_death, std::move(event), now()))
        std::visit([&](auto& x) { perform_dead(*dead, over, x); }, effect);
}

void receiver_state::perform_dead(session& dead, attempt over,
                                  receiving_after_death::cancel_writer& x) {
    auto message = cancel_of(dead.opened.request, over, x.rank, dead.death());
    message.header.relay = x.sibling;
    send_to(x.process, std::move(message));
}

void receiver_state::perform_dead(session& dead, attempt over, receiving_after_death::withdraw& x) {
    withdraw(over, dead, dead.death(), x.untold);
}

void receiver_state::perform_dead(session&, attempt over, forbid_writes& x) {
    ask(self_, with_.fabric, x)
        .then([this, over] { carry_dead(over, receiving_after_death::writes_forbidden{}); },
              [](const caf::error&) {
                  // The fabric is gone: it proves nothing any more.
              });
}

/// The session is not in the table any more: nothing follows.
void receiver_state::perform_dead(session&, attempt over, receiving_after_death::release&) {
    carry(receiving_sessions::proven_quiet{over});
}

// -- time ---------------------------------------------------------------------------------------

time_point receiver_state::now() const {
    return turn_time(self_);
}

void receiver_state::on_deadline(const deadline_tick&) {
    const carrier_here here{*this};
    timer_.fired(now());
    carry(receiving_sessions::tick{});
    while (!looks_.empty() && looks_.front().first <= now()) {
        const auto attempt = looks_.front().second;
        looks_.pop_front();
        if (is_watched(attempt))
            look(attempt, sessions_.at(attempt));
    }
    for (auto attempt : relays_.due(now()))
        tell(self_, sessions_.at(attempt).actor, relay_overdue{});
    carry(known_instances::tick{});
    carry(receiving_links::tick{});
}

/// Writers that wait for their hosts are asked again before they forget the session; they are told
/// that it is wanted while it waits for its own host.
void receiver_state::look(attempt which, session& x) {
    const auto since = now();
    if (since - x.renewed_at >= renewal_period()) {
        x.renewed_at = since;
        tell(self_, x.actor, renew_requests{});
    }
    // With siblings the context has not sent all yet, and waits to hear.
    if ((!x.begun_at || !x.siblings.empty())
        && since - x.kept_at >= with_.bounds.session_keep_interval) {
        x.kept_at = since;
        tell(self_, x.actor, keep_session{});
    }
    watch(which);
}

bool receiver_state::is_watched(attempt which) const {
    const auto* known = sessions_.find(which);
    return known && !known->has_ended();
}

void receiver_state::watch(attempt which) {
    const auto interval = std::min(renewal_period(), with_.bounds.session_keep_interval);
    looks_.emplace_back(now() + std::max(interval, std::chrono::milliseconds{1}), which);
}

void receiver_state::rearm() {
    while (!looks_.empty() && !is_watched(looks_.front().second))
        looks_.pop_front();
    auto next = sessions_.deadlines().next();
    if (!looks_.empty() && (!next || looks_.front().first < *next))
        next = looks_.front().first;
    for (auto other : {relays_.next(), instances_.next(), links_.next()})
        if (other && (!next || *other < *next))
            next = other;
    timer_.rearm(self_, next);
}

/// A sibling that hands on has half of the time that the session's clock leaves; the other half is
/// the context's.
void receiver_state::give_half_to_relay(attempt waits) {
    const auto* known = sessions_.find(waits);
    const auto until = sessions_.deadlines().of(waits);
    if (!known || known->siblings.empty() || known->has_ended() || !until)
        return;
    relays_.set(waits, now() + (*until - now()) / 2);
    rearm();
}

/// Sessions renew their requests before writers that wait for their host forget them.
std::chrono::milliseconds receiver_state::renewal_period() const {
    return std::max(with_.bounds.early_request_lease / 3, std::chrono::milliseconds{1});
}

// -- stop and status ----------------------------------------------------------------------------

/// What has no writers yet goes; what has writers runs to its end.
caf::result<void> receiver_state::on_drain(const drain_sessions& message) {
    for (auto attempt : instances_.waiting())
        tell(self_, sessions_.at(attempt).actor, cancel_request{message.reason});
    return stop(message.reason);
}

caf::result<void> receiver_state::on_cancel_all(const cancel_request& cancel) {
    for (auto& [attempt, session] : sessions_)
        tell(self_, session.actor, cancel);
    return stop(cancel.reason);
}

caf::result<void> receiver_state::stop(const caf::error& reason) {
    auto promise = self_->make_response_promise<void>();
    stop_promises_.push_back(promise);
    carry(receiving_links::stopping{});
    carry(receiving_sessions::stop_asked{reason});
    return promise;
}

void receiver_state::perform(receiving_sessions::answer_stop&) {
    for (auto& promise : std::exchange(stop_promises_, {}))
        promise.deliver();
}

caf::result<session_list> receiver_state::on_list(const list_sessions& message) {
    const auto wanted = [only = message.request](const session& x) {
        return !only || x.opened.request == *only;
    };
    session_list known;
    for (const auto& [attempt, dead] : sessions_) {
        if (!dead.is_dead() || !wanted(dead) || known.sessions.size() >= message.most)
            continue;
        session_status status;
        status.role = side::generation;
        status.request = dead.opened.request;
        status.attempt = attempt;
        status.state = session_state::error;
        for (const auto& writer : dead.after_death->in_doubt()) {
            if (!writer.sibling)
                status.peers[writer.rank] = exposure::in_doubt;
            const auto& its = *std::find_if(
                writer.sibling ? dead.siblings.data() : dead.context->data(),
                writer.sibling ? dead.siblings.data() + dead.siblings.size()
                               : dead.context->data() + dead.context->size(),
                [&writer](const rank_info& each) { return each.rank == writer.rank; });
            status.waits.push_back(
                {"proof that " + describe(its) + " is gone, since " + text_of(dead.death()),
                 "peer_link", describe(its)});
        }
        status.waits_for = text_of(status.waits);
        known.sessions.push_back(std::move(status));
    }
    return collect_status(
        self_, sessions_, sessions_.deadlines(),
        [wanted](attempt, const session& x) { return !x.is_dead() && wanted(x); }, std::move(known),
        {}, message);
}

} // namespace kvferry
