// SPDX-License-Identifier: Apache-2.0
// From an instance's endpoint to writers and links; routing of results to sessions.
#include "actors/receiver.hpp"

#include "actors/collect_status.hpp"
#include "actors/rx_session.hpp"
#include "messages/handle.hpp"
#include "transport/cohorts.hpp"
#include "transport/topology.hpp"

#include <algorithm>

namespace kvferry {

receiver_state::receiver_state(receiver_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), random_(with_.seed) {}

receiver_actor::behavior_type receiver_state::make_behavior() {
    return {
        handle(this, &receiver_state::on_peer_ready),   handle(this, &receiver_state::on_peer_lost),
        handle(this, &receiver_state::on_process_gone), handle(this, &receiver_state::on_open),
        handle(this, &receiver_state::on_kv_result),    handle(this, &receiver_state::on_aux_result),
        handle(this, &receiver_state::on_cancel),       handle(this, &receiver_state::on_gone),
        handle(this, &receiver_state::on_refused),      handle(this, &receiver_state::on_retired),
        handle(this, &receiver_state::on_deadline),     handle(this, &receiver_state::on_list),
        handle(this, &receiver_state::on_cancel_all),
    };
}

caf::result<rx_opened> receiver_state::on_open(const open_rx& ask) {
    if (stopping_)
        return stopping_;
    if (ask.request.value > rid_max)
        return make_error(errc::invalid_argument, "rid " + to_string(ask.request) + " needs more than 63 bits");
    if (sessions_.size() >= with_.bounds.sessions_max)
        return make_error(errc::limit_exceeded,
                          "sessions_max = " + std::to_string(with_.bounds.sessions_max)
                              + " receiving sessions are live: open rid " + to_string(ask.request) + " later");
    attempt drawn{random_()};
    auto actor = spawn_at<rx_session_actor, rx_session_state>(
        self_->system(), with_.home,
        rx_session_state::dependencies{with_.bounds, with_.self, self_, ask.observer, ask.request, drawn,
                                       ask.aux});
    sessions_.emplace(drawn, session{actor, ask});
    unbound_.push_back(drawn);
    deadlines_.set(drawn, self_->clock().now() + ask.deadline);
    timer_.rearm(self_, deadlines_.next());
    resolve(with_.own_endpoint);
    resolve(ask.context_endpoint);
    bind_all();
    return rx_opened{actor, drawn};
}

// -- who writes ---------------------------------------------------------------------------------

void receiver_state::resolve(const std::string& endpoint) {
    if (instances_.contains(endpoint) || !asked_.emplace(endpoint, true).second)
        return;
    ask(self_, with_.info_link, fetch_instance_info{endpoint, with_.bounds.info_deadline})
        .then([this, endpoint](instance_info& info) { instance_arrived(endpoint, std::move(info.ranks)); },
              [this, endpoint](const caf::error& reason) { instance_failed(endpoint, reason); });
}

void receiver_state::instance_arrived(const std::string& endpoint, std::vector<rank_info> ranks) {
    asked_.erase(endpoint);
    // From here on ranks[i] is rank i; what else the list must be, cohorts_of checks.
    std::sort(ranks.begin(), ranks.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    instances_[endpoint] = std::move(ranks);
    bind_all();
}

void receiver_state::instance_failed(const std::string& endpoint, const caf::error& reason) {
    asked_.erase(endpoint);
    std::erase_if(unbound_, [&](attempt drawn) {
        const auto& opened = sessions_.at(drawn).opened;
        if (endpoint != with_.own_endpoint && endpoint != opened.context_endpoint)
            return false;
        tell(self_, sessions_.at(drawn).actor, bind_writers{{}, reason});
        return true;
    });
}

/// Binds every session whose instance and own instance are known.
void receiver_state::bind_all() {
    if (!instances_.contains(with_.own_endpoint))
        return;
    std::erase_if(unbound_, [this](attempt drawn) {
        const auto& session = sessions_.at(drawn);
        if (!instances_.contains(session.opened.context_endpoint))
            return false;
        auto writers = writers_for(session.opened);
        if (!writers) {
            tell(self_, session.actor, bind_writers{{}, writers.error()});
            return true;
        }
        tell(self_, session.actor, bind_writers{*writers, {}});
        const auto& ranks = instances_.at(session.opened.context_endpoint);
        for (const auto& writer : *writers) {
            auto [known, fresh] = peers_.try_emplace(writer.process);
            if (fresh) {
                known->second.info = ranks[writer.rank.value];
                connect(known->second.info);
            } else if (known->second.view) {
                tell(self_, session.actor, peer_ready{known->second.view});
            }
        }
        return true;
    });
}

/// The link tells peer_ready or peer_lost; only a worker that makes no link has to be heard here.
void receiver_state::connect(const rank_info& peer) {
    ask(self_, with_.worker, connect_peer{peer})
        .then([](const peer_connected&) {},
              [this, process = peer.process](const caf::error& reason) {
                  on_peer_lost(peer_lost{process, reason});
              });
}

caf::expected<std::vector<writer_binding>> receiver_state::writers_for(const open_rx& opened) const {
    const auto& context = instances_.at(opened.context_endpoint);
    auto mine = cohorts_of(with_.self, context, opened.context_dp_rank);
    if (!mine)
        return add_context(mine.error(), "rid " + to_string(opened.request));
    std::map<rank_id, writer_binding> bindings;
    for (auto rank : mine->kv)
        bindings[rank].kv = true;
    if (opened.aux == aux_mode::required)
        for (auto rank : mine->aux)
            bindings[rank].aux = true;
    std::vector<writer_binding> result;
    for (auto& [rank, binding] : bindings) {
        binding.rank = rank;
        binding.process = context[rank.value].process;
        binding.receivers = receivers_of(context[rank.value], instances_.at(with_.own_endpoint),
                                         dp_rank(with_.self.layout), opened.aux == aux_mode::required);
        result.push_back(std::move(binding));
    }
    return result;
}

// -- peers --------------------------------------------------------------------------------------

void receiver_state::on_peer_ready(const peer_ready& message) {
    auto known = peers_.find(message.peer->info.process);
    if (known == peers_.end())
        peers_.emplace(message.peer->info.process, peer{message.peer->info, message.peer});
    else
        known->second.view = message.peer;
    for (auto& [drawn, session] : sessions_)
        tell(self_, session.actor, message);
}

void receiver_state::on_peer_lost(const peer_lost& message) {
    peers_.erase(message.peer);
    std::erase_if(instances_, [&](const auto& entry) {
        return std::any_of(entry.second.begin(), entry.second.end(),
                           [&](const rank_info& rank) { return rank.process == message.peer; });
    });
    for (auto& [drawn, session] : sessions_)
        tell(self_, session.actor, message);
    for (auto drawn : unbound_) {
        resolve(with_.own_endpoint);
        resolve(sessions_.at(drawn).opened.context_endpoint);
    }
}

/// Proof needs both: the process is gone, and what it had put on the way has been applied.
void receiver_state::on_process_gone(const process_gone& message) {
    ask(self_, with_.fabric, drain_fabric{message.peer})
        .then(
            [this, message] {
                for (auto& [drawn, session] : sessions_)
                    tell(self_, session.actor, message);
            },
            [](const caf::error&) {
                // The fabric is gone: nothing can be proven any more, the pages stay on loan.
            });
}

// -- sessions -----------------------------------------------------------------------------------

template <class Message>
void receiver_state::deliver(const Message& message, bool answer) {
    if (auto session = sessions_.find(message.header.session); session != sessions_.end()) {
        tell(self_, session->second.actor, message);
        return;
    }
    auto known = peers_.find(message.header.sender);
    if (!answer || known == peers_.end() || !known->second.view)
        return;
    auto reason = make_error(errc::gone, describe(with_.self) + " has no attempt "
                                             + to_string(message.header.session) + " of rid "
                                             + to_string(message.header.request));
    tell(self_, known->second.view->link, send_message{gone{message.header, side::context, to_wire(reason)}});
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
}

void receiver_state::on_refused(const refused& message) {
    deliver(message, false);
}

void receiver_state::on_retired(const session_retired& message) {
    sessions_.erase(message.session);
    std::erase(unbound_, message.session);
    deadlines_.erase(message.session);
    finish_if_empty();
}

void receiver_state::on_deadline(const deadline_tick&) {
    auto now = self_->clock().now();
    timer_.fired(now);
    for (auto drawn : deadlines_.due(now))
        if (auto session = sessions_.find(drawn); session != sessions_.end())
            tell(self_, session->second.actor, deadline_tick{});
    timer_.rearm(self_, deadlines_.next());
}

caf::result<session_list> receiver_state::on_list(const list_sessions&) {
    std::map<attempt, rx_session_actor> actors;
    for (const auto& [drawn, session] : sessions_)
        actors.emplace(drawn, session.actor);
    return collect_status(self_, actors);
}

caf::result<void> receiver_state::on_cancel_all(const cancel_request& cancel) {
    stopping_ = cancel.reason;
    for (auto& [drawn, session] : sessions_)
        tell(self_, session.actor, cancel);
    auto promise = self_->make_response_promise<void>();
    stop_promises_.push_back(promise);
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
