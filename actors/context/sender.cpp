// SPDX-License-Identifier: Apache-2.0
// Routing of requests to tx_sessions, leases of early requests, deadlines.
#include "actors/context/sender.hpp"

#include "actors/context/tx_session.hpp"
#include "actors/shared/collect_status.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/planted_bug.hpp"

#include <algorithm>
#include <limits>

namespace kvferry {

namespace {

/// Doubtful attempts that are remembered; each stands for pages that may never come back.
constexpr std::size_t doubtful_max = 65536;

/// An index that no session reaches. Reported as `last`, it marks the writer in doubt without
/// completing its ledger.
constexpr send_piece beyond_all{{std::numeric_limits<std::uint32_t>::max()}, true};

} // namespace

sender_state::sender_state(sender_actor::pointer self,
                           std::shared_ptr<const sender_environment> environment)
    : self_(self), environment_(std::move(environment)) {
    self_->set_down_handler([this](const caf::down_msg& down) { on_down(down); });
}

sender_state::~sender_state() {
    for (const auto& [id, session] : sessions_)
        tell_from_outside(session.actor, owner_ended{});
}

sender_actor::behavior_type sender_state::make_behavior() {
    return {
        handle(this, &sender_state::on_open),         handle(this, &sender_state::on_request),
        handle(this, &sender_state::on_cancel),       handle(this, &sender_state::on_gone),
        handle(this, &sender_state::on_peer_ready),   handle(this, &sender_state::on_peer_lost),
        handle(this, &sender_state::on_process_gone), handle(this, &sender_state::on_retired),
        handle(this, &sender_state::on_transferring), handle(this, &sender_state::on_deadline),
        handle(this, &sender_state::on_list),         handle(this, &sender_state::on_cancel_all),
        handle(this, &sender_state::on_ended),        handle(this, &sender_state::on_drain),
    };
}

caf::result<tx_opened> sender_state::on_open(const open_tx& ask) {
    if (stopping_)
        return stopping_;
    if (ask.request.value > rid_max)
        return make_error(errc::invalid_argument,
                          "rid " + to_string(ask.request) + " needs more than 63 bits");
    if (sessions_.contains(ask.request) && !planted(planted_bug::rid_taken_over))
        return make_error(errc::duplicate, "rid " + to_string(ask.request)
                                               + " has a sending session that is not released yet");
    if (sessions_.size() >= environment_->bounds.sessions_max)
        return make_error(errc::limit_exceeded,
                          "sessions_max = " + std::to_string(environment_->bounds.sessions_max)
                              + " sending sessions are live: open rid " + to_string(ask.request)
                              + " later");
    auto actor = spawn_at<tx_session_actor, tx_session_state>(
        self_->system(), environment_->home,
        tx_session_state::dependencies{environment_, self_, ask.observer, ask.request, ask.aux,
                                       sessions_opened_++});
    self_->monitor(actor);
    by_actor_.emplace(actor.id(), ask.request);
    auto& fresh = sessions_[ask.request] = {actor, ask.observer, ask.transfer_deadline};
    count_session(environment_->counters, session_count::opened);
    if (auto former = ended_.extract(ask.request))
        fresh.answered = std::move(former.mapped().told);
    leases_.erase(ask.request);
    session_deadlines_.set(ask.request, self_->clock().now() + ask.deadline);
    if (auto early = early_.extract(ask.request)) {
        early_requests_ -= early.mapped().size();
        for (auto& waiting : early.mapped()) {
            early_of_peer_.remove(waiting.request.header.sender, ask.request);
            if (!planted(planted_bug::early_request_forgotten))
                pass_on(fresh, std::move(waiting.request), std::move(waiting.peer));
        }
    }
    if (auto withdrawn = withdrawn_.find(ask.request); withdrawn != withdrawn_.end())
        for (auto& each : withdrawn->second)
            tell(self_, actor, std::move(each));
    forget_withdrawals(ask.request);
    rearm();
    return tx_opened{actor};
}

/// Remembers what may be in flight for which receiver, in case the session dies.
void sender_state::pass_on(session& to, request_data request, peer_view_ptr peer) {
    const auto& header = request.header;
    const auto [asked, first] = to.asked.try_emplace(header.sender, header.attempt);
    const auto bound = asked->second;
    if (first)
        asked_by_.add(header.sender, header.request);
    const auto known =
        std::any_of(to.requests.begin(), to.requests.end(), [&header](const message_header& other) {
            return other.sender == header.sender && other.receive_slice == header.receive_slice;
        });
    if (bound == header.attempt && !known)
        to.requests.push_back(header);
    tell(self_, to.actor, bind_receiver{std::move(request), std::move(peer)});
}

void sender_state::on_request(const request_data& request) {
    auto peer = peers_.find(request.header.sender);
    if (peer == peers_.end()) { // its link ended in the meantime; the receiver knows
        count(environment_->counters, ignored::no_link);
        return;
    }
    auto id = request.header.request;
    if (auto session = sessions_.find(id); session != sessions_.end()) {
        if (session->second.died)
            answer_for_the_dead(session->second, request, peer->second);
        else
            pass_on(session->second, request, peer->second);
        return;
    }
    if (answered_by_memory(request, peer->second))
        return;
    if (stopping_) {
        answer_gone(peer->second, request.header, stopping_);
        return;
    }
    forget_withdrawals(id, request.header.sender); // another attempt has taken its place
    // A repeated request replaces the earlier one.
    auto& waiting = early_[id];
    const auto known = forget_early(id, waiting, [&](const early_request& other) {
        return other.request.header.sender == request.header.sender
               && other.request.header.attempt == request.header.attempt
               && other.request.header.receive_slice == request.header.receive_slice;
    });
    if (known != 0 && !request.renewal)
        count(environment_->counters, ignored::duplicate);
    if (request.renewal && known == 0) {
        if (waiting.empty())
            early_.erase(id);
        if (!planted(planted_bug::sweep_without_answer))
            answer_gone(peer->second, request.header,
                        make_error(errc::gone, "rid " + to_string(id) + " is not waiting on "
                                                   + describe(environment_->self) + " any more"));
        return;
    }
    // A request that wants nothing needs no answer, so it may be dropped: it must not take the room
    // of one that matters.
    const auto wants_nothing = !request.kv && request.aux == aux_mode::none;
    if (wants_nothing && early_requests_ >= environment_->bounds.early_requests_max / 2) {
        if (waiting.empty())
            early_.erase(id);
        return;
    }
    if (early_requests_ >= environment_->bounds.early_requests_max) {
        refused answer{request.header, side::generation, {}};
        answer.reason = to_wire(make_error(
            errc::limit_exceeded,
            "early_requests_max = " + std::to_string(environment_->bounds.early_requests_max)
                + " requests wait for their session on " + describe(environment_->self)));
        if (waiting.empty())
            early_.erase(id);
        tell(self_, peer->second->link, send_message{std::move(answer)});
        return;
    }
    waiting.push_back({request, peer->second});
    waiting.back().request.renewal = false; // it takes the place of what it renews
    ++early_requests_;
    early_of_peer_.add(request.header.sender, id);
    leases_.set(id, self_->clock().now() + environment_->bounds.early_request_lease);
    rearm();
}

/// Answers a request for a session that has ended. Of each receiver rank the first attempt counts
/// as meant for that session; another attempt begins anew.
bool sender_state::answered_by_memory(const request_data& request, const peer_view_ptr& peer) {
    auto ended = ended_.find(request.header.request);
    if (ended == ended_.end())
        return false;
    auto& [reason, told] = ended->second;
    if (!reason) { // served: only an attempt that has lost its reports with its link asks again
        auto served = told.find(request.header.sender);
        if (served == told.end() || served->second != request.header.attempt)
            return false;
        answer_gone(peer, request.header,
                    make_error(errc::gone, "rid " + to_string(request.header.request)
                                               + " was sent, but its reports went with the link"));
        return true;
    }
    auto known = told.try_emplace(request.header.sender, request.header.attempt);
    if (known.first->second != request.header.attempt)
        return false;
    answer_gone(peer, request.header, reason);
    return true;
}

/// Says how many there were. The rid's list itself stays, even when nothing is left in it.
template <class Unwanted>
std::size_t sender_state::forget_early(rid id, std::vector<early_request>& waiting,
                                       Unwanted unwanted) {
    const auto forgotten = std::erase_if(waiting, [&](const early_request& x) {
        if (!unwanted(x))
            return false;
        early_of_peer_.remove(x.request.header.sender, id);
        return true;
    });
    early_requests_ -= forgotten;
    return forgotten;
}

/// Drops the lease of early requests, unless an ended session or a withdrawal of the same rid still
/// needs it.
void sender_state::drop_lease(rid id) {
    if (!ended_.contains(id) && !withdrawn_.contains(id))
        leases_.erase(id);
}

/// A session that the host opens now would wait for this receiver in vain. A group that is not
/// selected will not be opened; and withdrawals must not take the room of requests.
void sender_state::remember_withdrawal(const cancel_session& cancel, const peer_view_ptr& from) {
    const auto id = cancel.header.request;
    if (cancel.reason.code == errc::not_selected || ended_.contains(id) || stopping_
        || planted(planted_bug::withdrawal_forgotten))
        return;
    forget_withdrawals(id, cancel.header.sender);
    if (withdrawals_ >= environment_->bounds.early_requests_max / 2)
        return;
    withdrawn_[id].push_back({cancel, from});
    ++withdrawals_;
    leases_.set(id, self_->clock().now() + environment_->bounds.early_request_lease);
    rearm();
}

/// All of that rid, or those of one receiver rank.
void sender_state::forget_withdrawals(rid id, std::optional<incarnation> of) {
    auto known = withdrawn_.find(id);
    if (known == withdrawn_.end())
        return;
    withdrawals_ -= std::erase_if(known->second, [of](const unbind_receiver& x) {
        return !of || x.cancel.header.sender == *of;
    });
    if (known->second.empty())
        withdrawn_.erase(known);
}

void sender_state::on_cancel(const cancel_session& cancel) {
    auto id = cancel.header.request;
    auto peer = peers_.find(cancel.header.sender);
    if (peer == peers_.end()) {
        count(environment_->counters, ignored::no_link);
        return;
    }
    if (auto session = sessions_.find(id); session != sessions_.end()) {
        const auto& answered = session->second.answered;
        const auto former = answered.find(cancel.header.sender);
        if (former != answered.end() && former->second == cancel.header.attempt)
            answer_gone(peer->second, cancel.header, from_wire(cancel.reason));
        else if (!session->second.died)
            tell(self_, session->second.actor, unbind_receiver{cancel, peer->second});
        else if (!may_be_served(session->second, cancel.header))
            answer_gone(peer->second, cancel.header, session->second.died);
        else {
            count(environment_->counters, ignored::session_died);
            answer_in_doubt(peer->second, cancel.header, session->second.died); // perhaps once more
        }
        return;
    }
    std::size_t forgotten = 0;
    if (auto early = early_.find(id); early != early_.end()) {
        forgotten = forget_early(id, early->second, [&](const early_request& waiting) {
            return waiting.request.header.attempt == cancel.header.attempt;
        });
        if (early->second.empty()) {
            early_.erase(early);
            drop_lease(id);
        }
    }
    remember_withdrawal(cancel, peer->second);
    if (forgotten == 0 && !withdrawn_.contains(id))
        count(environment_->counters, ignored::no_session);
    // Whether it waited here or was never known: nothing of that attempt is or will be in flight.
    answer_gone(peer->second, cancel.header, from_wire(cancel.reason));
}

void sender_state::on_gone(const gone& message) {
    if (auto session = sessions_.find(message.header.request); session != sessions_.end())
        tell(self_, session->second.actor, message);
    else
        count(environment_->counters, ignored::no_session);
}

void sender_state::on_peer_ready(const peer_ready& message) {
    peers_[message.peer->info.incarnation] = message.peer;
}

void sender_state::on_peer_lost(const peer_lost& message) {
    peers_.erase(message.peer);
    environment_->downgrades->forget(message.peer);
    for (auto id : early_of_peer_.of(message.peer)) {
        const auto early = early_.find(id);
        forget_early(id, early->second, [&](const early_request& waiting) {
            return waiting.request.header.sender == message.peer;
        });
        if (early->second.empty()) {
            early_.erase(early);
            drop_lease(id);
        }
    }
    for (auto id : asked_by_.of(message.peer))
        tell(self_, sessions_.at(id).actor, message);
}

void sender_state::on_process_gone(const process_gone& message) {
    for (auto id : asked_by_.of(message.peer))
        tell(self_, sessions_.at(id).actor, message);
}

void sender_state::on_transferring(const session_transferring& message) {
    if (auto session = sessions_.find(message.request); session != sessions_.end()) {
        session_deadlines_.set(message.request,
                               self_->clock().now() + session->second.transfer_deadline);
        rearm();
    }
}

void sender_state::on_ended(const session_ended& message) {
    if (auto session = sessions_.find(message.request); session != sessions_.end())
        if (!std::exchange(session->second.ended, true))
            count_session(environment_->counters, session_count::ended);
}

void sender_state::on_retired(const session_retired& message) {
    attempts asked;
    if (auto session = sessions_.extract(message.request)) {
        asked = std::move(session.mapped().asked);
        for (const auto& [peer, attempt] : asked)
            asked_by_.remove(peer, message.request);
        count_session(environment_->counters, session_count::forgotten);
        tell(self_, session.mapped().actor,
             deadline_tick{}); // comes after all other messages: it may end
    }
    if (message.undecided && !undecided_)
        undecided_ =
            make_error(errc::transfer_in_doubt,
                       "rid " + to_string(message.request) + " on " + describe(environment_->self)
                           + ": a copy into a peer's memory may still land until the process ends ("
                           + text_of(message.undecided) + ")");
    session_deadlines_.erase(message.request);
    if (message.in_doubt)
        for (const auto& [process, attempt] : asked)
            doubtful_.insert(attempt);
    // Successes leave room for failures, which matter more.
    const auto room = environment_->bounds.early_requests_max / (message.reason ? 1 : 2);
    if (ended_.size() < room) {
        ended_[message.request] = {message.reason, std::move(asked)};
        leases_.set(message.request,
                    self_->clock().now() + environment_->bounds.early_request_lease);
        rearm();
    }
    finish_if_empty();
}

// -- the death of a session ---------------------------------------------------------------------
// Its transfers go on, and no actor learns when they end: source pages and target pages stay on
// loan until the process ends. That costs memory; it is logged and counted. If the rank forgot the
// session instead, it would answer `gone`, which receivers take for proof.

void sender_state::on_down(const caf::down_msg& down) {
    auto known = by_actor_.extract(down.source.id());
    if (!known)
        return;
    auto found = sessions_.find(known.mapped());
    if (found == sessions_.end() || found->second.actor.id() != known.key())
        return; // it was retired
    session_died(found->first, found->second, down.reason);
}

void sender_state::session_died(rid id, session& dead, const caf::error& why) {
    dead.died = make_error(errc::handler_failed,
                           "rid " + to_string(id) + ": its tx_session on "
                               + describe(environment_->self) + " died (" + to_string(why)
                               + "): what it had started may still read and write");
    logger().error("{}; its pages stay on loan until the process restarts", describe(dead.died));
    session_deadlines_.erase(id);
    count_death(environment_->counters);
    const auto told = std::exchange(dead.ended, true);
    if (!told)
        count_session(environment_->counters, session_count::ended);
    if (!told)
        tell(self_, dead.observer,
             session_finished{side::context, id, {}, session_state::error, dead.died, {}, {}});
    if (planted(planted_bug::gone_after_death))
        return;
    for (const auto& header : dead.requests) {
        auto peer = peers_.find(header.sender);
        if (peer == peers_.end())
            continue;
        const auto& link = peer->second->link;
        if (!told)
            tell(self_, link,
                 send_message{cancel_session{header, side::generation, to_wire(dead.died)}});
        if (header.kind != payload_kind::kv)
            continue;
        answer_in_doubt(peer->second, header, dead.died);
    }
    if (planted(planted_bug::release_on_death))
        tell(self_, dead.observer, session_released{side::context, id, {}});
    finish_if_empty();
}

/// True for an attempt whose requests the session received, or may have received, before it died.
bool sender_state::may_be_served(const session& dead, const message_header& header) {
    auto asked = dead.asked.find(header.sender);
    return asked != dead.asked.end() && asked->second == header.attempt
           && !planted(planted_bug::gone_after_death);
}

/// Answers `gone` only to attempts that the session never knew.
void sender_state::answer_for_the_dead(const session& dead, const request_data& request,
                                       const peer_view_ptr& peer) {
    if (!may_be_served(dead, request.header))
        return answer_gone(peer, request.header, dead.died);
    count(environment_->counters, ignored::session_died);
    if (request.kv) // what it was told before may have gone down with its link
        answer_in_doubt(peer, request.header, dead.died);
    else
        tell(self_, peer->link,
             send_message{cancel_session{request.header, side::generation, to_wire(dead.died)}});
}

void sender_state::on_deadline(const deadline_tick&) {
    auto now = self_->clock().now();
    timer_.fired(now);
    for (auto id : session_deadlines_.due(now))
        if (auto session = sessions_.find(id); session != sessions_.end())
            tell(self_, session->second.actor, deadline_tick{});
    for (auto id : leases_.due(now)) {
        ended_.erase(id);
        forget_withdrawals(id);
        auto early = early_.find(id);
        if (early == early_.end())
            continue;
        for (auto& waiting : early->second)
            if (!planted(planted_bug::sweep_without_answer))
                answer_gone(waiting.peer, waiting.request.header,
                            make_error(errc::gone, "rid " + to_string(id) + " was not opened on "
                                                       + describe(environment_->self)
                                                       + " within early_request_lease"));
        forget_early(id, early->second, [](const early_request&) { return true; });
        early_.erase(early);
    }
    rearm();
}

caf::result<session_list> sender_state::on_list(const list_sessions& message) {
    const auto wanted = [only = message.request](rid request) { return !only || request == *only; };
    session_list known;
    for (const auto& [request, waiting] : early_) {
        if (!wanted(request))
            continue;
        session_status status;
        status.request = request;
        for (const auto& early : waiting) {
            status.peers[early.peer->info.rank] = exposure::unexposed;
            status.waits.push_back(
                {"the host's open_tx(), to answer request_data of " + describe(early.peer->info),
                 "host"});
        }
        status.waits_for = text_of(status.waits);
        status.deadline = leases_.of(request);
        known.unopened.push_back(std::move(status));
    }
    for (const auto& [request, dead] : sessions_) {
        if (!dead.died || !wanted(request))
            continue;
        session_status status;
        status.request = request;
        status.state = session_state::error;
        for (const auto& header : dead.requests)
            if (auto peer = peers_.find(header.sender); peer != peers_.end())
                status.peers[peer->second->info.rank] = exposure::in_doubt;
        status.waits.push_back(
            {"the end of the process, since " + text_of(dead.died), "transfer_worker"});
        status.waits_for = text_of(status.waits);
        known.sessions.push_back(std::move(status));
    }
    return collect_status(
        self_, sessions_, session_deadlines_,
        [wanted](rid request, const session& x) { return !x.died && wanted(request); },
        std::move(known));
}

/// What no receiver has asked for goes; what one has asked for runs to its end.
caf::result<void> sender_state::on_drain(const drain_sessions& message) {
    for (auto& [id, session] : sessions_)
        if (session.asked.empty())
            tell(self_, session.actor, cancel_request{message.reason});
    return refuse_new(message.reason);
}

caf::result<void> sender_state::on_cancel_all(const cancel_request& cancel) {
    for (auto& [id, session] : sessions_)
        tell(self_, session.actor, cancel);
    return refuse_new(cancel.reason);
}

/// Answered when no session is left.
caf::result<void> sender_state::refuse_new(const caf::error& reason) {
    stopping_ = reason;
    for (auto& [id, waiting] : early_)
        for (auto& early : waiting)
            answer_gone(early.peer, early.request.header, reason);
    early_.clear();
    early_requests_ = 0;
    withdrawn_.clear();
    withdrawals_ = 0;
    early_of_peer_ = {};
    auto promise = self_->make_response_promise<void>();
    stop_promises_.push_back(promise);
    finish_if_empty();
    return promise;
}

void sender_state::answer_in_doubt(const peer_view_ptr& to, const message_header& of,
                                   const caf::error& why) {
    kv_agent_result report;
    report.header = of;
    report.header.kind = payload_kind::kv;
    report.header.writer = environment_->self.rank;
    report.header.piece = beyond_all;
    report.result = agent_result::in_doubt;
    report.error = to_wire(why);
    tell(self_, to->link, send_message{std::move(report)});
}

/// When the set of doubtful attempts is full, every attempt counts as one: pages are then kept that
/// need not be, but none is lost to a late write.
void sender_state::answer_gone(const peer_view_ptr& to, const message_header& of,
                               const caf::error& reason) {
    if (doubtful_.contains(of.attempt) || doubtful_.size() >= doubtful_max)
        return answer_in_doubt(to, of, reason);
    if (planted(planted_bug::gone_not_answered))
        return;
    tell(self_, to->link, send_message{gone{of, side::generation, to_wire(reason)}});
}

void sender_state::finish_if_empty() {
    if (!stopping_)
        return;
    auto kept = planted(planted_bug::goodbye_in_doubt) ? caf::error{} : undecided_;
    for (const auto& [id, session] : sessions_) {
        if (!session.died)
            return;
        kept = session.died;
    }
    for (auto& promise : stop_promises_)
        kept ? promise.deliver(kept) : promise.deliver();
    stop_promises_.clear();
}

void sender_state::rearm() {
    auto next = session_deadlines_.next();
    if (auto lease = leases_.next(); lease && (!next || *lease < *next))
        next = lease;
    timer_.rearm(self_, next);
}

} // namespace kvferry
