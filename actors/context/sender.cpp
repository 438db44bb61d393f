// SPDX-License-Identifier: Apache-2.0
// Messages in, decisions of three values, messages out: early requests, sessions, and their memory.
#include "actors/context/sender.hpp"

#include "actors/context/tx_session.hpp"
#include "actors/shared/collect_status.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/pass_on.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/short_lived.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

sender_state::sender_state(sender_actor::pointer self,
                           std::shared_ptr<const sender_environment> environment)
    : self_(self), environment_(std::move(environment)),
      early_({describe(environment_->self), environment_->bounds.early_requests_max,
              environment_->bounds.early_request_lease}),
      sessions_({"sending session", environment_->bounds.sessions_max, false,
                 environment_->bounds.session_age_max}),
      memory_({environment_->self.rank, environment_->bounds.early_requests_max,
               environment_->bounds.early_request_lease}) {
    if (const auto& deciders = environment_->deciders) {
        early_decider_ = deciders->early_requests;
        sessions_decider_ = deciders->sending_sessions;
        memory_decider_ = deciders->sending_memory;
    }
    if (environment_->bounds.relay && !environment_->relays) {
        auto relay = std::make_shared<sender_environment>(*environment_);
        relay->relays = true;
        relay->counters = {}; // what it moves is counted where it arrives
        relay_ = spawn_at<sender_actor, sender_state>(self_->system(), environment_->home,
                                                      std::move(relay));
        self_->monitor(relay_);
    }
    self_->set_down_handler([this](const caf::down_msg& down) { on_down(down); });
}

sender_state::~sender_state() {
    for (const auto& [id, session] : sessions_)
        tell_from_outside(session.actor, owner_ended{});
    if (relay_)
        caf::anon_send_exit(relay_, caf::exit_reason::user_shutdown);
}

sender_actor::behavior_type sender_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &sender_state::on_request),      handle(this, &sender_state::on_open),
        handle(this, &sender_state::on_transferring), handle(this, &sender_state::on_ended),
        handle(this, &sender_state::on_retired),      handle(this, &sender_state::on_cancel),
        handle(this, &sender_state::on_gone),         handle(this, &sender_state::on_peer_ready),
        handle(this, &sender_state::on_peer_lost),    handle(this, &sender_state::on_process_gone),
        handle(this, &sender_state::on_deadline),     handle(this, &sender_state::on_list),
        handle(this, &sender_state::on_cancel_all),   handle(this, &sender_state::on_drain),
        handle(this, &sender_state::on_wanted),       handle(this, &sender_state::on_extended),
    };
}

// -- sessions -----------------------------------------------------------------------------------

caf::result<tx_opened> sender_state::on_open(const open_tx& ask) {
    if (ask.relay_of != 0 && !environment_->relays) {
        if (!relay_)
            return make_error(errc::unsupported, "{} hands nothing on",
                              describe(environment_->self));
        return kvferry::pass_on(self_, relay_, open_tx{ask});
    }
    const auto id = ask.request;
    for (auto& effect :
         decide(sessions_decider_, sessions_,
                sending_sessions::event{sending_sessions::open_asked{id, id}}, turn_time(self_)))
        if (auto* refusal = std::get_if<sending_sessions::refuse>(&effect))
            return std::move(refusal->why);
    auto actor = spawn_short_lived<tx_session_actor, tx_session_state>(
        self_->system(), environment_->home,
        tx_session_state::dependencies{.environment = environment_,
                                       .owner = self_,
                                       .observer = ask.observer,
                                       .request = id,
                                       .aux = ask.aux,
                                       .serial = sessions_opened_++,
                                       .traceparent = ask.traceparent,
                                       .relay_of = ask.relay_of,
                                       .relay_views = ask.relay_views,
                                       .urgency = ask.urgency,
                                       .tell_ready = ask.tell_ready,
                                       .tell_owner_of_death = true,
                                       .tell_observer_of_death = ask.tell_death});
    ask_sessions(sending_sessions::opened{
        id, actor.id(), ask.deadline, ask.transfer_deadline, {actor, ask.observer, {}}});
    ask_memory(sending_memory::opened{id});
    ask_early(early_requests::session_opened{id});
    rearm();
    return tx_opened{actor};
}

void sender_state::pass_on(sending_sessions::session& to, bind_receiver ask) {
    const auto& header = ask.request.header;
    if (to.asked.add(header))
        asked_by_.add(header.sender, header.request);
    tell(self_, to.actor, std::move(ask));
}

void sender_state::on_transferring(const session_transferring& message) {
    began(message);
    rearm();
}

void sender_state::began(const session_transferring& message) {
    ask_sessions(sending_sessions::first_piece_began{message.request}, message.at);
}

void sender_state::on_extended(const session_extended& message) {
    ask_sessions(sending_sessions::extended{message.request, message.by});
    rearm();
}

void sender_state::on_wanted(const session_wanted& message) {
    if (!peers_.contains(message.header.sender))
        return count(environment_->counters, ignored::no_link);
    if (!sessions_.contains(
            message.header.request)) // its host has not opened it yet, or it is over
        return count(environment_->counters, ignored::no_session);
    ask_sessions(sending_sessions::kept{message.header.request});
    rearm();
}

void sender_state::on_ended(const session_ended& message) {
    ask_sessions(sending_sessions::outcome_told{
        message.request, message.reason ? code_of(message.reason) : errc::none});
}

void sender_state::on_retired(session_retired& message) {
    if (message.begun)
        began(*message.begun);
    if (message.ended)
        on_ended(*message.ended);
    const auto id = message.request;
    attempts_of_ranks served;
    if (auto* session = sessions_.find(id))
        served = std::move(session->asked.bound);
    for (const auto& [peer, attempt] : served)
        asked_by_.remove(peer, id);
    caf::error undecided;
    if (message.in_doubt && !message.in_doubt->by_messages)
        undecided = make_error(
            errc::transfer_in_doubt,
            "rid {} on {}: bytes for a peer's memory may still land until the process ends ({})",
            id, describe(environment_->self), text_of(message.in_doubt->why));
    ask_memory(sending_memory::retired{id, std::move(message.reason), std::move(served),
                                       std::move(message.in_doubt)});
    ask_sessions(sending_sessions::retired{id, std::move(undecided)});
    rearm();
}

void sender_state::on_down(const caf::down_msg& down) {
    if (relay_ && down.source == relay_.address()) // its sessions lend this rank's pages
        return self_->quit(down.reason);
    const auto id = sessions_.session_of(down.source.id());
    if (!id)
        return;
    ask_sessions(sending_sessions::died{
        *id,
        make_error(
            errc::handler_failed,
            "rid {}: its tx_session on {} died ({}): what it had started may still read and write",
            *id, describe(environment_->self), to_string(down.reason))});
}

/// `at`: what it is about has happened then.
void sender_state::ask_sessions(sending_sessions::event&& what, std::optional<time_point> at) {
    const auto now = at ? *at : turn_time(self_);
    for (auto& effect : decide(sessions_decider_, sessions_, std::move(what), now))
        std::visit([this](auto& x) { perform(x); }, effect);
}

void sender_state::perform(sending_sessions::count& x) {
    count_session(environment_->counters, side::context, x.what);
}

void sender_state::perform(sending_sessions::count_outcome& x) {
    count_session(environment_->counters, side::context, session_count::ended);
    kvferry::count_outcome(environment_->counters, side::context, x.why, x.waited, x.transferred);
}

void sender_state::perform(sending_sessions::count_death&) {
    count_death(environment_->counters);
}

void sender_state::perform(sending_sessions::tell_deadline& x) {
    tell(self_, sessions_.at(x.key).actor, deadline_tick{});
}

/// No actor learns when its transfers end: source pages and target pages stay on loan until the
/// process ends. That costs memory; it is logged and counted.
void sender_state::perform(sending_sessions::announce_death& x) {
    const auto& dead = sessions_.at(x.key);
    logger().error("{}; its pages stay on loan until the process restarts", describe(dead.death()));
    if (!x.outcome_told)
        tell(self_, dead.observer,
             session_finished{.role = side::context,
                              .request = x.key,
                              .state = session_state::error,
                              .error = dead.death()});
    ask_memory(sending_memory::died{x.key, dead.death(), dead.asked, x.outcome_told});
}

void sender_state::perform(sending_sessions::tell_released& x) {
    tell(self_, x.data.observer, session_released{side::context, x.key, {}});
}

void sender_state::perform(sending_sessions::forget& x) {
    tell(self_, x.last.actor, deadline_tick{}); // comes after all other messages: it may end
}

void sender_state::perform(sending_sessions::answer_stop& x) {
    stopped_ = std::move(x.kept);
    answer_stops();
}

void sender_state::answer_stops() {
    if (!stopped_ || relay_stopping_ > 0)
        return;
    const auto& kept = *stopped_ ? *stopped_ : kept_by_relay_;
    for (auto& promise : std::exchange(stop_promises_, {}))
        kept ? promise.deliver(kept) : promise.deliver();
}

// -- peers --------------------------------------------------------------------------------------

/// To the part of this rank that serves siblings.
void sender_state::tell_relay(const auto& message) {
    if (relay_)
        tell(self_, relay_, message);
    else if constexpr (requires { message.header; })
        count(environment_->counters, ignored::unexpected);
}

void sender_state::on_request(request_data& request) {
    if (request.header.relay && !environment_->relays)
        return tell_relay(request);
    const auto peer = peers_.find(request.header.sender);
    if (peer == peers_.end()) // its link ended in the meantime; the receiver knows
        return count(environment_->counters, ignored::no_link);
    auto* session = sessions_.find(request.header.request);
    const auto served = session && !session->is_dead();
    if (served && !memory_.remembers_former(request.header.request)) // it would say the same
        return pass_on(*session, {std::move(request), peer->second});
    ask_memory(sending_memory::asked{{std::move(request), peer->second}, served});
}

void sender_state::on_cancel(cancel_session& cancel) {
    if (cancel.header.relay && !environment_->relays)
        return tell_relay(cancel);
    const auto peer = peers_.find(cancel.header.sender);
    if (peer == peers_.end())
        return count(environment_->counters, ignored::no_link);
    const auto* session = sessions_.find(cancel.header.request);
    const auto served = session && !session->is_dead();
    ask_memory(sending_memory::given_up{{std::move(cancel), peer->second}, served});
}

void sender_state::on_gone(gone& message) {
    if (message.header.relay && !environment_->relays)
        return tell_relay(message);
    if (const auto* session = sessions_.find(message.header.request))
        tell(self_, session->actor, std::move(message));
    else
        count(environment_->counters, ignored::no_session);
}

void sender_state::on_peer_ready(const peer_ready& message) {
    peers_[message.peer->info.incarnation] = message.peer;
    tell_relay(message);
}

void sender_state::on_peer_lost(const peer_lost& message) {
    peers_.erase(message.peer);
    environment_->downgrades->forget(message.peer);
    ask_early(early_requests::link_lost{message.peer});
    tell_asked(message.peer, message);
    tell_relay(message);
}

void sender_state::on_process_gone(const process_gone& message) {
    tell_asked(message.peer, message);
    tell_relay(message);
}

void sender_state::tell_asked(incarnation by, const auto& message) {
    for (auto id : asked_by_.of(by))
        tell(self_, sessions_.at(id).actor, message);
}

void sender_state::tell_peer(incarnation to, wire_message message) {
    if (const auto peer = peers_.find(to); peer != peers_.end())
        tell(self_, peer->second->link, send_message{std::move(message)});
}

void sender_state::ask_memory(sending_memory::event&& what) {
    for (auto& effect : decide(memory_decider_, memory_, std::move(what), turn_time(self_)))
        std::visit([this](auto& x) { perform(x); }, effect);
}

void sender_state::perform(sending_memory::tell_peer& x) {
    tell_peer(x.to, std::move(x.message));
}

void sender_state::perform(sending_memory::keep_early& x) {
    ask_early(early_requests::asked{std::move(x.ask)});
    rearm();
}

void sender_state::perform(sending_memory::give_up_early& x) {
    ask_early(early_requests::given_up{std::move(x.by), x.after_session});
    rearm();
}

void sender_state::perform(sending_memory::bind& x) {
    pass_on(sessions_.at(x.ask.request.header.request), std::move(x.ask));
}

void sender_state::perform(sending_memory::unbind& x) {
    tell(self_, sessions_.at(x.by.cancel.header.request).actor, std::move(x.by));
}

void sender_state::perform(sending_memory::count_ignored& x) {
    count(environment_->counters, x.why);
}

void sender_state::ask_early(early_requests::event&& what) {
    for (auto& effect : decide(early_decider_, early_, std::move(what), turn_time(self_)))
        std::visit([this](auto& x) { perform(x); }, effect);
}

void sender_state::perform(early_requests::bind& x) {
    pass_on(sessions_.at(x.ask.request.header.request), std::move(x.ask));
}

void sender_state::perform(early_requests::unbind& x) {
    tell(self_, sessions_.at(x.by.cancel.header.request).actor, std::move(x.by));
}

void sender_state::perform(early_requests::answer_gone& x) {
    ask_memory(sending_memory::not_served{x.to, std::move(x.why)});
}

void sender_state::perform(early_requests::refuse& x) {
    tell_peer(x.to.sender, refused{x.to, side::generation, to_wire(x.why)});
}

void sender_state::perform(early_requests::count_ignored& x) {
    count(environment_->counters, x.why);
}

// -- deadlines, lists, stops --------------------------------------------------------------------

void sender_state::on_deadline(const deadline_tick&) {
    timer_.fired(turn_time(self_));
    ask_sessions(sending_sessions::tick{});
    ask_memory(sending_memory::tick{});
    ask_early(early_requests::tick{});
    rearm();
}

void sender_state::rearm() {
    auto next = sessions_.deadlines().next();
    for (auto other : {early_.leases().next(), memory_.leases().next()})
        if (other && (!next || *other < *next))
            next = other;
    timer_.rearm(self_, next);
}

caf::result<session_list> sender_state::on_list(const list_sessions& message) {
    const auto wanted = [only = message.request](rid request) { return !only || request == *only; };
    auto known = list_unopened(message);
    for (const auto& [request, dead] : sessions_) {
        if (!dead.is_dead() || !wanted(request) || known.sessions.size() >= message.most)
            continue;
        session_status status;
        status.request = request;
        status.state = session_state::error;
        for (const auto& header : dead.asked.headers)
            if (auto peer = peers_.find(header.sender); peer != peers_.end())
                status.peers[peer->second->info.rank] = exposure::in_doubt;
        status.waits.push_back(
            {"the end of the process, since " + text_of(dead.death()), "transfer_worker"});
        status.waits_for = text_of(status.waits);
        status.relay = environment_->relays;
        known.sessions.push_back(std::move(status));
    }
    return collect_status(
        self_, sessions_, sessions_.deadlines(),
        [wanted](rid request, const auto& x) { return !x.is_dead() && wanted(request); },
        std::move(known), relay_, message);
}

session_list sender_state::list_unopened(const list_sessions& message) const {
    session_list result;
    const auto add = [this, &result](rid request, const auto& waiting) {
        if (waiting.requests.empty())
            return;
        session_status status;
        status.request = request;
        for (const auto& early : waiting.requests) {
            status.peers[early.peer->info.rank] = exposure::unexposed;
            status.waits.push_back(
                {(environment_->relays ? "this rank's own session of the request, to hand on to "
                                       : "the host's open_tx(), to answer request_data of ")
                     + describe(early.peer->info),
                 "host"});
        }
        status.waits_for = text_of(status.waits);
        status.deadline = early_.leases().of(request);
        status.relay = environment_->relays;
        result.unopened.push_back(std::move(status));
    };
    const auto& all = early_.all();
    const auto wanted =
        message.request ? std::vector{*message.request} : early_.leases().first(message.most);
    for (const auto request : wanted)
        if (const auto found = all.find(request); found != all.end())
            add(request, found->second);
    return result;
}

/// What no receiver has asked for goes; what one has asked for runs to its end.
caf::result<void> sender_state::on_drain(const drain_sessions& message) {
    for (auto& [id, session] : sessions_)
        if (session.asked.bound.empty())
            tell(self_, session.actor, cancel_request{message.reason});
    end_relay(message);
    return refuse_new(message.reason);
}

caf::result<void> sender_state::on_cancel_all(const cancel_request& cancel) {
    for (auto& [id, session] : sessions_)
        tell(self_, session.actor, cancel);
    end_relay(cancel);
    return refuse_new(cancel.reason);
}

/// A stop is answered when it has answered as well.
void sender_state::end_relay(const auto& message) {
    if (!relay_)
        return;
    ++relay_stopping_;
    const auto ended = [this](const caf::error& kept) {
        --relay_stopping_;
        if (kept)
            kept_by_relay_ = kept;
        answer_stops();
    };
    ask(self_, relay_, message).then([ended] { ended({}); }, ended);
}

/// Answered when no session is left that lives.
caf::result<void> sender_state::refuse_new(const caf::error& reason) {
    ask_early(early_requests::stopped{reason});
    auto promise = self_->make_response_promise<void>();
    stop_promises_.push_back(promise);
    stopped_.reset();
    ask_sessions(sending_sessions::stop_asked{reason});
    return promise;
}

} // namespace kvferry
