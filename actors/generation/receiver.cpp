// SPDX-License-Identifier: Apache-2.0
// Finds the writers behind an instance's endpoint, has links made, routes results to sessions.
#include "actors/generation/receiver.hpp"

#include "actors/generation/rx_session.hpp"
#include "actors/shared/collect_status.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/worker.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/planted_bug.hpp"

#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace kvferry {

receiver_state::receiver_state(receiver_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), random_(with_.seed) {
    self_->set_down_handler([this](const caf::down_msg& down) { on_down(down); });
}

receiver_state::~receiver_state() {
    for (const auto& [id, session] : sessions_)
        tell_from_outside(session.actor, owner_ended{});
}

receiver_actor::behavior_type receiver_state::make_behavior() {
    return {
        handle(this, &receiver_state::on_peer_ready),   handle(this, &receiver_state::on_peer_lost),
        handle(this, &receiver_state::on_process_gone), handle(this, &receiver_state::on_open),
        handle(this, &receiver_state::on_started),      handle(this, &receiver_state::on_kv_result),
        handle(this, &receiver_state::on_aux_result),   handle(this, &receiver_state::on_cancel),
        handle(this, &receiver_state::on_gone),         handle(this, &receiver_state::on_refused),
        handle(this, &receiver_state::on_transferring), handle(this, &receiver_state::on_ended),
        handle(this, &receiver_state::on_retired),      handle(this, &receiver_state::on_deadline),
        handle(this, &receiver_state::on_list),         handle(this, &receiver_state::on_drain),
        handle(this, &receiver_state::on_cancel_all),
    };
}

caf::result<rx_opened> receiver_state::on_open(const open_rx& ask) {
    if (stopping_)
        return stopping_;
    if (ask.request.value > rid_max)
        return make_error(errc::invalid_argument,
                          "rid " + to_string(ask.request) + " needs more than 63 bits");
    if (sessions_.size() >= with_.bounds.sessions_max)
        return make_error(errc::limit_exceeded,
                          "sessions_max = " + std::to_string(with_.bounds.sessions_max)
                              + " receiving sessions are live: open rid " + to_string(ask.request)
                              + " later");
    forget_notices(ask.request); // of former attempts
    attempt attempt{random_()};
    auto actor = spawn_at<rx_session_actor, rx_session_state>(
        self_->system(), with_.home,
        rx_session_state::dependencies{with_.bounds, with_.self, self_, ask.observer, ask.request,
                                       attempt, ask.aux, ask.context_endpoint, with_.checker,
                                       with_.counters, with_.fabric, with_.by_message,
                                       with_.deciders});
    self_->monitor(actor);
    by_actor_.emplace(actor.id(), attempt);
    auto& fresh = sessions_.emplace(attempt, session{actor, ask, ++opened_}).first->second;
    count_session(with_.counters, session_count::opened);
    if (!planted(planted_bug::deadline_not_armed))
        deadlines_.set(attempt, self_->clock().now() + ask.deadline);
    rearm();
    resolve(with_.own_endpoint);
    resolve(ask.context_endpoint);
    if (is_settled(ask.context_endpoint))
        bind(attempt, fresh);
    else
        unbound_[ask.context_endpoint].emplace(fresh.number, attempt);
    return rx_opened{actor, attempt};
}

// -- who writes ---------------------------------------------------------------------------------

void receiver_state::resolve(const std::string& endpoint) {
    if ((instances_.contains(endpoint) && !doubted_.contains(endpoint))
        || !asked_.insert(endpoint).second)
        return;
    if (auto wait = waits_.find(endpoint);
        wait != waits_.end() && wait->second.until() > self_->clock().now()) {
        retries_.set(endpoint, wait->second.until());
        rearm();
        return;
    }
    fetch(endpoint);
}

void receiver_state::fetch(const std::string& endpoint) {
    ask(self_, with_.info_link, fetch_instance_info{endpoint, with_.bounds.info_deadline})
        .then([this, endpoint](
                  instance_info& info) { instance_arrived(endpoint, std::move(info.ranks)); },
              [this, endpoint](const caf::error& reason) { instance_failed(endpoint, reason); });
}

/// Delays the next question to this endpoint. Sessions that open meanwhile wait for it, within
/// their deadlines.
void receiver_state::back_off_from(const std::string& endpoint) {
    const auto now = self_->clock().now();
    std::erase_if(waits_, [now](const auto& entry) {
        return entry.second.until() + back_off::longest < now;
    });
    waits_[endpoint].failed(now, random_);
}

void receiver_state::instance_arrived(const std::string& endpoint, std::vector<rank_info> ranks) {
    asked_.erase(endpoint);
    // From here on ranks[i] is rank i; cohorts_of checks the rest.
    std::sort(ranks.begin(), ranks.end(),
              [](const auto& a, const auto& b) { return a.rank < b.rank; });
    instances_[endpoint] = std::make_shared<const std::vector<rank_info>>(std::move(ranks));
    learned_[endpoint] = self_->clock().now();
    doubted_.erase(endpoint);
    forget_parties(endpoint);
    for (const auto& each : waiting_for(endpoint))
        bind_waiting(each);
}

/// The context endpoints of sessions that need to know this instance.
std::vector<std::string> receiver_state::waiting_for(const std::string& endpoint) const {
    if (endpoint != with_.own_endpoint)
        return {endpoint};
    std::vector<std::string> result;
    for (const auto& [each, sessions] : unbound_)
        result.push_back(each);
    return result;
}

/// Both instances decide about the parties, the own one about all of them.
void receiver_state::forget_parties(const std::string& endpoint) {
    if (endpoint == with_.own_endpoint)
        return parties_.clear();
    auto first = parties_.lower_bound(parties_key{endpoint, {}, aux_mode::none, {}});
    while (first != parties_.end() && std::get<0>(first->first) == endpoint)
        first = parties_.erase(first);
}

void receiver_state::instance_failed(const std::string& endpoint, const caf::error& reason) {
    back_off_from(endpoint);
    if (code_of(reason) == errc::limit_exceeded) { // too many others are asked just now
        retries_.set(endpoint, waits_[endpoint].until());
        rearm();
        return;
    }
    asked_.erase(endpoint);
    if (!instances_.contains(endpoint)) { // otherwise that is better than nothing
        for (const auto& each : waiting_for(endpoint))
            if (auto waiting = unbound_.extract(each))
                for (const auto& [number, attempt] : waiting.mapped())
                    tell(self_, sessions_.at(attempt).actor, bind_writers{{}, reason});
        return;
    }
    for (const auto& each : waiting_for(endpoint))
        bind_waiting(each);
}

/// A session with that instance has failed. Its ranks may be others by now, even if the ones known
/// here still live: the next session asks.
void receiver_state::doubt(const std::string& endpoint) {
    if (instances_.contains(endpoint)
        && self_->clock().now() - learned_[endpoint] >= with_.bounds.info_age_min)
        doubted_.insert(endpoint);
}

/// Sessions with that instance can be bound: it is known, and nobody is asked about it again.
bool receiver_state::is_settled(const std::string& endpoint) const {
    return instances_.contains(with_.own_endpoint) && instances_.contains(endpoint)
           && !asked_.contains(endpoint);
}

/// Binds the sessions that waited for an instance, if that and the own one are known.
void receiver_state::bind_waiting(const std::string& endpoint) {
    if (!is_settled(endpoint))
        return;
    if (auto waiting = unbound_.extract(endpoint))
        for (const auto& [number, attempt] : waiting.mapped())
            bind(attempt, sessions_.at(attempt));
}

/// Of a session whose instance and own instance are known.
void receiver_state::bind(attempt attempt, session& fresh) {
    if (auto problem = check_other_instance(fresh.opened.context_endpoint)) {
        tell(self_, fresh.actor, bind_writers{{}, problem});
        return;
    }
    const auto& parties = parties_for(fresh.opened);
    if (!parties) {
        tell(self_, fresh.actor,
             bind_writers{{},
                          add_context(parties.error(), "rid " + to_string(fresh.opened.request))});
        return;
    }
    fresh.parties = *parties;
    fresh.context = instances_.at(fresh.opened.context_endpoint);
    tell(self_, fresh.actor,
         bind_writers{fresh.parties->writers,
                      {},
                      fresh.parties->layers_skipped,
                      fresh.parties->roles_skipped});
    renewals_.set(attempt, self_->clock().now() + renewal_period());
    rearm();
    for (const auto& writer : fresh.writers()) {
        by_writer_.add(writer.incarnation, attempt);
        if (const auto& known = meet((*fresh.context)[writer.rank.value]); known.view)
            tell_ready(fresh, known.view);
    }
}

/// A rank that dials itself would wait for itself: a wrong endpoint is told by name.
caf::error receiver_state::check_other_instance(const std::string& endpoint) const {
    for (const auto& rank : *instances_.at(endpoint))
        if (rank.incarnation == with_.self.incarnation)
            return make_error(errc::invalid_argument,
                              endpoint + " is the endpoint of " + describe(with_.self)
                                  + " itself: give that of the context instance");
    return {};
}

/// The link to a context rank, made when this is the first session that needs it.
receiver_state::peer& receiver_state::meet(const rank_info& rank) {
    auto [known, fresh] = peers_.try_emplace(rank.incarnation);
    if (fresh) {
        known->second.info = rank;
        connect(rank);
    }
    return known->second;
}

/// The link itself tells peer_ready or peer_lost. An error here means that the worker made no link.
void receiver_state::connect(const rank_info& peer) {
    ask(self_, with_.worker, connect_peer{peer})
        .then([](const peer_connected&) {},
              [this, process = peer.incarnation](const caf::error& reason) {
                  on_peer_lost(peer_lost{process, reason});
              });
}

const caf::expected<receiver_state::parties_ptr>&
receiver_state::parties_for(const open_rx& opened) {
    parties_key key{opened.context_endpoint, opened.context_dp_rank, opened.aux, opened.allowed};
    auto [found, fresh] = parties_.try_emplace(std::move(key), parties_ptr{});
    auto& result = found->second;
    if (fresh) {
        auto parties = parties_of(with_.self, *instances_.at(with_.own_endpoint),
                                  *instances_.at(opened.context_endpoint), opened.context_dp_rank,
                                  opened.aux, opened.allowed);
        if (parties && (!parties->layers_skipped.empty() || !parties->roles_skipped.empty()))
            logger().info("{}: the instance at {} does not have layers [{}], roles [{}]: skipped",
                          describe(with_.self), opened.context_endpoint,
                          fmt::join(parties->layers_skipped, ", "),
                          fmt::join(parties->roles_skipped, ", "));
        if (parties)
            result = std::make_shared<const transfer_parties>(std::move(*parties));
        else
            result = std::move(parties.error());
    }
    return result;
}

/// A request that nothing has to be done for: the bystander's session ends when its host has given
/// all, instead of waiting for its deadline.
void receiver_state::ask_for_nothing(const session& serving, attempt attempt,
                                     const rank_info& bystander) {
    request_data request;
    request.header.request = serving.opened.request;
    request.header.attempt = attempt;
    request.header.writer = bystander.rank;
    request.target.last = true;
    request.kv = false;
    request.receivers = {with_.self.rank};
    notify(bystander, std::move(request));
}

/// The session has failed: context ranks that would wait for it in vain are told. Without parties
/// nobody knows who they are: then the ranks of the own instance share those of the context.
void receiver_state::withdraw(attempt attempt, const session& failed, const caf::error& why,
                              const std::vector<rank_id>& untold) {
    if (planted(planted_bug::withdrawal_not_sent))
        return;
    if (failed.parties) {
        for (auto rank : untold)
            withdraw_from(attempt, failed, (*failed.context)[rank.value], why);
        for (const auto& [group, ranks] : failed.parties->bystanders)
            if (!failed.runs_on || *failed.runs_on == group)
                for (auto rank : ranks)
                    withdraw_from(attempt, failed, (*failed.context)[rank.value], why);
        return;
    }
    const auto& endpoint = failed.opened.context_endpoint;
    if (!instances_.contains(endpoint) || check_other_instance(endpoint))
        return;
    const auto& context = *instances_.at(endpoint);
    for (auto rank = std::size_t{with_.self.rank.value}; rank < context.size();
         rank += with_.self.world_size)
        withdraw_from(attempt, failed, context[rank], why);
}

void receiver_state::withdraw_from(attempt attempt, const session& failed, const rank_info& context,
                                   const caf::error& why) {
    notify(context, cancel_of(attempt, failed, context.rank, why));
}

cancel_session receiver_state::cancel_of(attempt attempt, const session& failed, rank_id writer,
                                         const caf::error& why) {
    cancel_session result;
    result.header.request = failed.opened.request;
    result.header.attempt = attempt;
    result.header.writer = writer;
    result.to = side::context;
    result.reason = to_wire(why);
    return result;
}

/// Keeps it with the link, which is made when there is none.
void receiver_state::notify(const rank_info& to, wire_message message) {
    auto& known = meet(to);
    forget_heard(known.notices);
    if (known.notices.size() >= with_.bounds.pending_per_link_max)
        known.notices.pop_front();
    known.notices.push_back({std::move(message), {}});
    if (known.view)
        send_notices(known);
}

/// The rid is opened anew: what was said of it before would end its new session over there.
void receiver_state::forget_notices(rid request) {
    for (auto& [process, known] : peers_)
        std::erase_if(known.notices, [request](const notice& x) {
            return header_of(x.message).request == request;
        });
}

void receiver_state::send_notices(peer& to) {
    for (auto& each : to.notices)
        if (!each.sent) {
            tell(self_, to.view->link, send_message{each.message});
            each.sent = self_->clock().now();
        }
}

/// A link that lives has been heard within this time, and what was sent before has arrived.
void receiver_state::forget_heard(std::deque<notice>& notices) const {
    const auto long_ago = self_->clock().now() - with_.bounds.link_patience
                          - 2 * clock::duration{with_.bounds.link_health_interval};
    std::erase_if(notices,
                  [long_ago](const auto& each) { return each.sent && *each.sent < long_ago; });
}

// -- peers --------------------------------------------------------------------------------------

std::vector<std::string> receiver_state::endpoints_of(incarnation process) const {
    std::vector<std::string> result;
    for (const auto& [endpoint, ranks] : instances_)
        if (std::any_of(ranks->begin(), ranks->end(),
                        [process](const auto& rank) { return rank.incarnation == process; }))
            result.push_back(endpoint);
    return result;
}

void receiver_state::on_peer_ready(const peer_ready& message) {
    auto& known = peers_[message.peer->info.incarnation];
    known.info = message.peer->info;
    known.view = message.peer;
    debtors_.erase(message.peer->info.incarnation);
    searches_.erase(message.peer->info.incarnation);
    for (const auto& endpoint : endpoints_of(message.peer->info.incarnation))
        waits_.erase(endpoint);
    send_notices(known);
    for (auto attempt : by_writer_.of(message.peer->info.incarnation))
        if (auto& each = sessions_.at(attempt); !each.died)
            tell_ready(each, message.peer);
        else
            for (const auto& writer : each.writers())
                if (each.in_doubt.contains(writer.incarnation)
                    && writer.incarnation == message.peer->info.incarnation)
                    cancel_for_dead(attempt, each, writer);
}

/// Remembers, in case the session dies, what its writers may be told.
void receiver_state::tell_ready(session& to, const peer_view_ptr& peer) {
    to.may_know.insert(peer->info.incarnation);
    if (peer->process_watched)
        to.may_map.insert(peer->info.incarnation);
    tell(self_, to.actor, peer_ready{peer});
}

void receiver_state::on_peer_lost(const peer_lost& message) {
    auto known = peers_.extract(message.peer);
    const auto never_up = known && !known.mapped().view;
    for (const auto& endpoint : endpoints_of(message.peer)) {
        if (!planted(planted_bug::info_cached_for_ever)) {
            instances_.erase(endpoint);
            learned_.erase(endpoint);
            doubted_.erase(endpoint);
        }
        if (never_up) // one that was up may be tried again at once
            back_off_from(endpoint);
    }
    const auto redials = never_up ? known.mapped().redials : 0;
    auto notices = known ? std::move(known.mapped().notices) : std::deque<notice>{};
    forget_heard(notices);
    auto news = message;
    if (redials > 0)
        news.reason =
            make_error(errc::link_lost, text_of(known.mapped().lost_before)
                                            + "; dialled again: " + text_of(message.reason));
    news.dialled_again =
        known && redials < redials_max && is_worth_a_dial(message, !notices.empty());
    for (auto attempt : by_writer_.of(message.peer))
        tell(self_, sessions_.at(attempt).actor, news);
    if (!news.dialled_again && known)
        look_for_again(known.mapped().info, message.reason);
    if (news.dialled_again) {
        auto& again = peers_[message.peer];
        again.info = known.mapped().info;
        again.lost_before = redials > 0 ? known.mapped().lost_before : message.reason;
        again.redials = redials + 1;
        for (auto& each : notices)
            each.sent.reset();
        again.notices = std::move(notices);
        connect(again.info);
    }
    for (const auto& [endpoint, waiting] : unbound_) {
        resolve(with_.own_endpoint);
        resolve(endpoint);
    }
}

/// The connection broke, which may have been all: a session may go on over a new link to the same
/// process, or at least hear what its writers did. Dials that break as well are repeated at once.
bool receiver_state::is_worth_a_dial(const peer_lost& lost, bool has_notices) const {
    const auto concerned = by_writer_.of(lost.peer);
    return code_of(lost.reason) == errc::link_lost && !stopping_
           && (has_notices || std::any_of(concerned.begin(), concerned.end(), [this](attempt each) {
                   return !sessions_.at(each).died;
               }));
}

/// Sessions with pages that this rank may still write into wait for its answer, which needs a link.
void receiver_state::look_for_again(const rank_info& lost, const caf::error& why) {
    const auto replaced = code_of(why) == errc::stale_incarnation;
    if (stopping_ || replaced || by_writer_.of(lost.incarnation).empty()
        || planted(planted_bug::quarantine_not_visited)) {
        debtors_.erase(lost.incarnation);
        return;
    }
    auto& debtor = debtors_[lost.incarnation];
    debtor.info = lost;
    search_later(debtor);
}

void receiver_state::search_later(debtor& x) {
    x.wait.failed(self_->clock().now(), random_);
    searches_.set(x.info.incarnation, x.wait.until());
    rearm();
}

void receiver_state::look_for_debtors(time_point now) {
    for (auto process : searches_.due(now)) {
        auto debtor = debtors_.find(process);
        if (debtor == debtors_.end())
            continue;
        const auto concerned = by_writer_.of(process);
        if (concerned.empty())
            debtors_.erase(debtor);
        else if (std::any_of(concerned.begin(), concerned.end(),
                             [this](attempt each) { return sessions_.at(each).ended; }))
            meet(debtor->second.info);
        else // nobody has ended yet: its answer would free nothing
            search_later(debtor->second);
    }
}

/// Proof needs both: the process is gone, and everything it had sent has been applied.
void receiver_state::on_process_gone(const process_gone& message) {
    ask(self_, with_.fabric, drain_fabric{message.peer})
        .then([this, message] { tell_sessions(message); },
              [](const caf::error&) {
                  // The fabric is gone: nothing can be proven any more, the pages stay on loan.
              });
}

void receiver_state::tell_sessions(const process_gone& message) {
    for (auto attempt : by_writer_.of(message.peer)) {
        auto& session = sessions_.at(attempt);
        if (!session.died)
            tell(self_, session.actor, message);
        else if (session.in_doubt.erase(message.peer) != 0)
            release_if_proven(attempt);
    }
}

// -- sessions -----------------------------------------------------------------------------------

template <class Message>
void receiver_state::deliver(const Message& message, bool answer) {
    if (auto session = sessions_.find(message.header.attempt); session != sessions_.end()) {
        if (session->second.died)
            return count(with_.counters, ignored::session_died);
        tell(self_, session->second.actor, message);
        return;
    }
    count(with_.counters, ignored::no_session);
    auto known = peers_.find(message.header.sender);
    if (!answer || known == peers_.end() || !known->second.view)
        return;
    auto reason = make_error(errc::gone, describe(with_.self) + " has no attempt "
                                             + to_string(message.header.attempt) + " of rid "
                                             + to_string(message.header.request));
    tell(self_, known->second.view->link,
         send_message{gone{message.header, side::context, to_wire(reason)}});
}

void receiver_state::on_started(const transfer_started& message) {
    deliver(message, false); // the report follows
}

void receiver_state::on_kv_result(const kv_agent_result& message) {
    deliver(message, true);
}

void receiver_state::on_aux_result(const aux_agent_result& message) {
    deliver(message, true);
}

void receiver_state::on_cancel(const cancel_session& message) {
    deliver(message, false); // it has ended already, which is what was asked for
}

void receiver_state::on_gone(const gone& message) {
    deliver(message, false);
    gone_for_dead(message.header);
}

void receiver_state::on_refused(const refused& message) {
    deliver(message, false);
}

void receiver_state::on_transferring(const session_transferring& message) {
    auto session = sessions_.find(message.attempt);
    if (session == sessions_.end() || session->second.died)
        return;
    const auto& opened = session->second.opened;
    deadlines_.set(message.attempt, self_->clock().now() + opened.transfer_deadline);
    rearm();
    const auto& parties = session->second.parties;
    session->second.runs_on = message.context_dp_rank;
    if (auto group = parties->bystanders.find(message.context_dp_rank);
        group != parties->bystanders.end())
        for (auto rank : group->second)
            ask_for_nothing(session->second, message.attempt,
                            (*session->second.context)[rank.value]);
}

void receiver_state::on_ended(const session_ended& message) {
    auto session = sessions_.find(message.attempt);
    if (session == sessions_.end())
        return;
    if (!std::exchange(session->second.ended, true))
        count_session(with_.counters, session_count::ended);
    if (message.reason)
        withdraw(message.attempt, session->second, message.reason, message.untold);
    if (message.reason && code_of(message.reason) != errc::cancelled
        && !planted(planted_bug::info_cached_for_ever))
        doubt(session->second.opened.context_endpoint);
}

void receiver_state::on_retired(const session_retired& message) {
    forget(message.attempt);
    finish_if_empty();
}

/// It needs no writers, no renewal and no deadline any more.
void receiver_state::stop_waiting(attempt attempt, const session& x) {
    if (auto waiting = unbound_.find(x.opened.context_endpoint); waiting != unbound_.end()) {
        waiting->second.erase(x.number);
        if (waiting->second.empty())
            unbound_.erase(waiting);
    }
    deadlines_.erase(attempt);
    renewals_.erase(attempt);
}

void receiver_state::forget(attempt attempt) {
    auto known = sessions_.extract(attempt);
    if (!known)
        return;
    stop_waiting(attempt, known.mapped());
    for (const auto& writer : known.mapped().writers())
        by_writer_.remove(writer.incarnation, attempt);
    count_session(with_.counters, session_count::forgotten);
}

// -- the death of a session ---------------------------------------------------------------------
// Only the session knew which writers were told of pages and which have reported. Without it, all
// of them are in doubt until their processes are proven gone.

void receiver_state::on_down(const caf::down_msg& down) {
    auto known = by_actor_.extract(down.source.id());
    if (!known || planted(planted_bug::session_never_forgotten))
        return;
    if (auto found = sessions_.find(known.mapped()); found != sessions_.end())
        session_died(found->first, found->second, down.reason);
}

void receiver_state::session_died(attempt attempt, session& dead, const caf::error& why) {
    const auto request = dead.opened.request;
    dead.died = make_error(errc::handler_failed, "rid " + to_string(request) + ", attempt "
                                                     + to_string(attempt) + ": its rx_session on "
                                                     + describe(with_.self) + " died ("
                                                     + to_string(why) + ")");
    logger().error("{}; its pages stay on loan until all of its writers are proven gone",
                   describe(dead.died));
    stop_waiting(attempt, dead);
    std::vector<rank_id> untold;
    for (const auto& writer : dead.writers()) {
        const auto knows = dead.may_know.contains(writer.incarnation);
        if (!knows && !dead.ended)
            untold.push_back(writer.rank);
        if (writer.kv && knows)
            dead.in_doubt.insert(writer.incarnation);
        if (knows && (!dead.ended || writer.kv))
            cancel_for_dead(attempt, dead, writer);
    }
    if (!dead.ended)
        withdraw(attempt, dead, dead.died, untold);
    if (!std::exchange(dead.ended, true)) {
        count_session(with_.counters, session_count::ended);
        tell(self_, dead.opened.observer,
             session_finished{
                 side::generation, request, attempt, session_state::error, dead.died, {}, {}});
    }
    count_death(with_.counters);
    if (planted(planted_bug::release_on_death))
        dead.in_doubt.clear();
    forbid(attempt);
    release_if_proven(attempt);
}

/// Of a session that died: its writers that can only send messages are shut out.
void receiver_state::forbid(attempt over) {
    ask(self_, with_.fabric, forbid_writes{over})
        .then(
            [this, over] {
                auto dead = sessions_.find(over);
                if (dead == sessions_.end() || !with_.by_message)
                    return;
                std::erase_if(dead->second.in_doubt, [&dead](incarnation writer) {
                    return !dead->second.may_map.contains(writer);
                });
                release_if_proven(over);
            },
            [](const caf::error&) {
                // The fabric is gone: it proves nothing any more.
            });
}

/// Of a session that died.
void receiver_state::cancel_for_dead(attempt attempt, const session& dead,
                                     const writer_binding& writer) {
    auto known = peers_.find(writer.incarnation);
    if (known == peers_.end() || !known->second.view)
        return;
    tell(self_, known->second.view->link,
         send_message{cancel_of(attempt, dead, writer.rank, dead.died)});
}

/// A writer that answers the cancel knows the attempt no more, and no request comes after it.
void receiver_state::gone_for_dead(const message_header& header) {
    auto dead = sessions_.find(header.attempt);
    if (header.kind == payload_kind::none && dead != sessions_.end() && dead->second.died
        && dead->second.in_doubt.erase(header.sender) != 0)
        release_if_proven(header.attempt);
}

void receiver_state::release_if_proven(attempt attempt) {
    const auto& dead = sessions_.at(attempt);
    if (!dead.in_doubt.empty())
        return;
    tell(self_, dead.opened.observer,
         session_released{side::generation, dead.opened.request, attempt});
    forget(attempt);
    finish_if_empty();
}

void receiver_state::on_deadline(const deadline_tick&) {
    auto now = self_->clock().now();
    timer_.fired(now);
    for (auto attempt : deadlines_.due(now))
        if (auto session = sessions_.find(attempt); session != sessions_.end())
            tell(self_, session->second.actor, deadline_tick{});
    for (auto attempt : renewals_.due(now)) {
        tell(self_, sessions_.at(attempt).actor, renew_requests{});
        renewals_.set(attempt, now + renewal_period());
    }
    for (const auto& endpoint : retries_.due(now))
        fetch(endpoint);
    look_for_debtors(now);
    rearm();
}

void receiver_state::rearm() {
    auto next = deadlines_.next();
    for (auto other : {renewals_.next(), retries_.next(), searches_.next()})
        if (other && (!next || *other < *next))
            next = other;
    timer_.rearm(self_, next);
}

std::chrono::milliseconds receiver_state::renewal_period() const {
    return std::max(with_.bounds.early_request_lease / 3, std::chrono::milliseconds{1});
}

caf::result<session_list> receiver_state::on_list(const list_sessions& message) {
    const auto wanted = [only = message.request](const session& x) {
        return !only || x.opened.request == *only;
    };
    session_list known;
    for (const auto& [attempt, dead] : sessions_) {
        if (!dead.died || !wanted(dead))
            continue;
        session_status status;
        status.role = side::generation;
        status.request = dead.opened.request;
        status.attempt = attempt;
        status.state = session_state::error;
        for (const auto& writer : dead.writers()) {
            if (!dead.in_doubt.contains(writer.incarnation))
                continue;
            status.peers[writer.rank] = exposure::in_doubt;
            status.waits.push_back({"proof that context rank " + to_string(writer.rank)
                                        + " is gone, since " + text_of(dead.died),
                                    "peer_link", writer.instance + "/" + to_string(writer.rank)});
        }
        status.waits_for = text_of(status.waits);
        known.sessions.push_back(std::move(status));
    }
    return collect_status(
        self_, sessions_, deadlines_,
        [wanted](attempt, const session& x) { return !x.died && wanted(x); }, std::move(known));
}

/// What has no writers yet goes; what has writers runs to its end.
caf::result<void> receiver_state::on_drain(const drain_sessions& message) {
    stopping_ = message.reason;
    for (const auto& [endpoint, waiting] : unbound_)
        for (const auto& [number, attempt] : waiting)
            tell(self_, sessions_.at(attempt).actor, cancel_request{message.reason});
    auto promise = self_->make_response_promise<void>();
    stop_promises_.push_back(promise);
    finish_if_empty();
    return promise;
}

caf::result<void> receiver_state::on_cancel_all(const cancel_request& cancel) {
    stopping_ = cancel.reason;
    if (planted(planted_bug::stop_does_not_wait))
        return caf::unit;
    for (auto& [attempt, session] : sessions_)
        tell(self_, session.actor, cancel);
    auto promise = self_->make_response_promise<void>();
    stop_promises_.push_back(promise);
    if (planted(planted_bug::stop_in_a_circle)) {
        if (stop_promises_.size() == 1)
            ask(self_, with_.worker, stop_worker{std::chrono::hours{1}})
                .then([this](const worker_stopped&) { finish_if_empty(); },
                      [](const caf::error&) {});
        return promise;
    }
    finish_if_empty();
    return promise;
}

void receiver_state::finish_if_empty() {
    if (!stopping_ || !sessions_.empty())
        return;
    for (auto& promise : stop_promises_)
        promise.deliver();
    stop_promises_.clear();
}

} // namespace kvferry
