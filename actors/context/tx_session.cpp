// SPDX-License-Identifier: Apache-2.0
// What a tx_session tells its host, and when it ends; tx_session_receivers.cpp has the rest.
#include "actors/context/tx_session.hpp"

#include "actors/shared/aux_size.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/planted_bug.hpp"
#include "transport/planner/plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

tx_session_state::tx_session_state(tx_session_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {}

tx_session_actor::behavior_type tx_session_state::make_behavior() {
    return {
        handle(this, &tx_session_state::on_done),
        handle(this, &tx_session_state::on_peer_ready),
        handle(this, &tx_session_state::on_peer_lost),
        handle(this, &tx_session_state::on_process_gone),
        handle(this, &tx_session_state::on_send),
        handle(this, &tx_session_state::on_send_aux),
        handle(this, &tx_session_state::on_bind),
        handle(this, &tx_session_state::on_unbind),
        handle(this, &tx_session_state::on_gone),
        handle(this, &tx_session_state::on_host_cancel),
        handle(this, &tx_session_state::on_deadline),
        handle(this, &tx_session_state::on_owner_ended),
        handle(this, &tx_session_state::on_status),
    };
}

void tx_session_state::handler_failed(const caf::error& reason) {
    finish(session_state::error, reason);
    for (auto& [key, to] : receivers_) // the handler may have stopped before its report
        report_closing(to);
    release_if_quiet();
}

// -- the host -----------------------------------------------------------------------------------

void tx_session_state::on_send(const send_slice& message) {
    auto index = static_cast<std::uint32_t>(pieces_.size());
    pieces_.push_back({message.slice, message.events, {}, false});
    touched_.push_back(index);
    if (!finished_ && index > 0 && pieces_[index - 1].slice.last)
        finish(session_state::error,
               make_error(errc::invalid_argument, "rid " + to_string(with_.request)
                                                      + ": send slice " + std::to_string(index)
                                                      + " comes after the last one"));
    if (!finished_)
        if (auto problem = check_tokens(message.slice))
            finish(session_state::error,
                   add_context(problem, "rid " + to_string(with_.request) + ": send slice "
                                            + std::to_string(index)));
    if (finished_) {
        if (!std::exchange(pieces_.back().told_host, true))
            tell(self_, with_.observer,
                 piece_finished{side::context,
                                with_.request,
                                {},
                                payload_kind::kv,
                                {index},
                                error_ ? error_ : make_error(errc::gone, "the session has ended")});
        return;
    }
    for (auto& [key, to] : receivers_)
        dispatch(to, index);
    update();
}

void tx_session_state::on_send_aux(const send_aux& message) {
    auto failure = error_;
    if (!failure && with_.aux == aux_mode::none)
        failure = make_error(errc::invalid_argument,
                             "rid " + to_string(with_.request) + " was opened without aux");
    if (!failure && aux_)
        failure =
            make_error(errc::duplicate, "rid " + to_string(with_.request) + " has its aux already");
    if (!failure)
        failure = check_aux_size(message.record, with_.environment->bounds.aux_bytes_max);
    if (failure || finished_) {
        tell(self_, with_.observer,
             piece_finished{side::context, with_.request, {}, payload_kind::aux, {}, failure});
        return;
    }
    aux_ = message.record;
    for (auto& [key, to] : receivers_)
        deliver_aux(to);
    update();
}

void tx_session_state::on_host_cancel(const cancel_request& message) {
    auto reason =
        message.reason ? message.reason : make_error(errc::cancelled, "the host cancelled");
    finish(outcome_of(reason), reason);
}

void tx_session_state::on_deadline(const deadline_tick&) {
    if (released_) { // the owner routes nothing here any more
        self_->quit();
        return;
    }
    finish(session_state::error,
           make_error(errc::deadline_exceeded, "rid " + to_string(with_.request) + " on "
                                                   + describe(with_.environment->self)
                                                   + " waited for " + text_of(waits())));
}

/// Reports still reach the peers: links are called directly.
void tx_session_state::on_owner_ended(const owner_ended&) {
    orphaned_ = true;
    if (released_)
        self_->quit();
    else
        finish(session_state::error,
               make_error(errc::handler_failed, "rid " + to_string(with_.request)
                                                    + ": the sender of "
                                                    + describe(with_.environment->self) + " died"));
}

caf::result<session_status> tx_session_state::on_status(const query_status&) {
    auto waiting = waits();
    auto text = text_of(waiting);
    session_status result{side::context,   with_.request,     {}, state_, {},
                          std::move(text), std::move(waiting)};
    for (const auto& [key, to] : receivers_)
        result.peers[key.first] = to.in_flight.empty() ? exposure::quiet : exposure::exposed;
    return result;
}

// -- outcome and release ------------------------------------------------------------------------

bool tx_session_state::host_gave_all() const {
    return !pieces_.empty() && pieces_.back().slice.last;
}

bool tx_session_state::all_bound() const {
    return !expected_.empty()
           && std::all_of(expected_.begin(), expected_.end(),
                          [this](rank_id rank) { return asked_for_all(rank); });
}

/// The receiver rank has sent the last of its requests.
bool tx_session_state::asked_for_all(rank_id rank) const {
    return std::any_of(receivers_.begin(), receivers_.end(), [rank](const auto& entry) {
        return entry.first.first == rank && entry.second.request.target.last;
    });
}

bool tx_session_state::complete(const receiver& to) const {
    auto kv = !to.request.kv || (to.last_reported && to.in_flight.empty());
    return kv && (to.request.aux == aux_mode::none || to.aux_reported);
}

bool tx_session_state::kv_complete() const {
    return host_gave_all() && all_bound()
           && std::all_of(receivers_.begin(), receivers_.end(), [](const auto& entry) {
                  const auto& to = entry.second;
                  return !to.request.kv || (to.last_reported && to.in_flight.empty());
              });
}

bool tx_session_state::aux_complete() const {
    if (with_.aux == aux_mode::required && !aux_)
        return false; // even if no receiver wants it: the host's piece must end
    return std::all_of(receivers_.begin(), receivers_.end(), [](const auto& entry) {
        return entry.second.request.aux == aux_mode::none || entry.second.aux_reported;
    });
}

bool tx_session_state::is_served(const piece& x) const {
    return std::all_of(receivers_.begin(), receivers_.end(), [&x](const auto& entry) {
        return !entry.second.request.kv || x.served.contains(entry.first);
    });
}

void tx_session_state::tell_served(std::uint32_t index) {
    auto& piece = pieces_[index];
    if (piece.told_host || !is_served(piece))
        return;
    piece.told_host = !planted(planted_bug::piece_told_twice);
    tell(self_, with_.observer,
         piece_finished{side::context, with_.request, {}, payload_kind::kv, {index}, {}});
}

/// Moves the state forward and tells the host which of its pieces have ended.
void tx_session_state::update() {
    if (finished_)
        return;
    auto bound = all_bound();
    if (bound && !std::exchange(ready_told_, true))
        tell(self_, with_.observer, session_ready{with_.request});
    for (std::uint32_t index = 0; bound && all_touched_ && index < pieces_.size(); ++index)
        tell_served(index);
    for (auto index : touched_)
        if (bound && !all_touched_)
            tell_served(index);
    touched_.clear();
    all_touched_ = !bound || planted(planted_bug::piece_told_twice);
    if (bound && aux_ && aux_complete() && !aux_told_host_) {
        aux_told_host_ = true;
        tell(self_, with_.observer,
             piece_finished{side::context, with_.request, {}, payload_kind::aux, {}, {}});
    }
    auto reached = session_state::init;
    if (kv_complete())
        reached = session_state::kv_transferred;
    else if (std::any_of(receivers_.begin(), receivers_.end(),
                         [](const auto& entry) { return entry.second.dispatched > 0; }))
        reached = session_state::transferring;
    else if (bound)
        reached = session_state::ready;
    state_ = std::max(state_, reached);
    if (state_ == session_state::kv_transferred && aux_complete())
        finish(with_.aux == aux_mode::none ? state_ : session_state::fully_transferred, {});
}

void tx_session_state::finish(session_state outcome, const caf::error& reason) {
    if (finished_)
        return;
    finished_ = true;
    state_ = outcome;
    error_ = reason;
    session_finished result{side::context, with_.request, {}, outcome, reason, {}, {}};
    for (std::uint32_t index = 0; index < pieces_.size(); ++index)
        if (!std::exchange(pieces_[index].told_host, true))
            tell(self_, with_.observer,
                 piece_finished{
                     side::context, with_.request, {}, payload_kind::kv, {index}, reason});
    if (aux_ && !std::exchange(aux_told_host_, true))
        tell(self_, with_.observer,
             piece_finished{side::context, with_.request, {}, payload_kind::aux, {}, reason});
    for (auto& [key, to] : receivers_) {
        // Also tell receivers that have everything from this rank: they may wait for siblings of
        // it, one of which has failed.
        if (reason && !to.closed && complete(to))
            tell_peer(to, cancel_session{to.request.header, side::generation, to_wire(reason)});
        if (reason)
            close(to, reason);
        result.peers.push_back(to.summary);
    }
    tell(self_, with_.observer, std::move(result));
    tell(self_, with_.owner, session_ended{with_.request, {}});
    release_if_quiet();
}

/// Gives the source pages back to the host once no operation of this rank can read them. The
/// session lives until its owner knows, so that requests on their way here still get an answer.
void tx_session_state::release_if_quiet() {
    auto reading = std::any_of(receivers_.begin(), receivers_.end(),
                               [](const auto& entry) { return !entry.second.in_flight.empty(); });
    if (planted(planted_bug::pages_back_while_read))
        reading = false;
    if (!finished_ || reading || std::exchange(released_, true))
        return;
    tell(self_, with_.observer, session_released{side::context, with_.request, {}});
    tell(self_, with_.owner, session_retired{with_.request, {}, error_, in_doubt_, undecided_});
    with_.observer = observer_actor{}; // the observer may hold this session
    if (orphaned_)
        self_->quit();
}

std::vector<session_wait> tx_session_state::waits() const {
    std::vector<session_wait> result;
    for (const auto& [key, to] : receivers_) {
        if (to.in_flight.empty())
            continue;
        const auto& copier = to.in_flight.begin()->second.copier;
        result.push_back(
            {std::to_string(to.in_flight.size()) + " transfers to rank " + to_string(key.first),
             !copier                             ? "ucx_io"
             : copier == with_.environment->copy ? "copy_io"
                                                 : "cuda_io"});
    }
    if (!finished_) {
        if (!host_gave_all())
            return {{"the host's last send(slice)", "host"}};
        if (expected_.empty())
            return {{"a receiver's request_data", "rx_session"}};
        const auto instance =
            receivers_.empty() ? "" : receivers_.begin()->second.peer->info.instance;
        for (auto rank : expected_)
            if (!attempts_.contains(rank))
                result.push_back({"request_data of rank " + to_string(rank), "rx_session",
                                  instance + "/" + to_string(rank)});
        if (result.empty() && with_.aux == aux_mode::required && !aux_)
            return {{"the host's send_aux()", "host"}};
    }
    return result;
}

} // namespace kvferry
