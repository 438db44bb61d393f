// SPDX-License-Identifier: Apache-2.0
// What an rx_session does on each message. Outcome and release are decided separately.
#include "actors/generation/rx_session.hpp"

#include "actors/shared/aux_size.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/planted_bug.hpp"
#include "transport/planner/plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// A failure always has a reason, also when the peer did not give one.
caf::error reason_of(const wire_error& x) {
    return x.code == errc::none ? make_error(errc::transfer_failed, "the peer gave no reason")
                                : from_wire(x);
}

/// True for errors that say how the request ended; false for gone, limit_exceeded and stopped,
/// which only say that this writer does not serve it.
bool is_about_the_request(errc code) {
    return code != errc::none && code != errc::gone && code != errc::limit_exceeded
           && code != errc::stopped;
}

} // namespace

rx_session_state::rx_session_state(rx_session_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {}

rx_session_actor::behavior_type rx_session_state::make_behavior() {
    return {
        handle(this, &rx_session_state::on_peer_ready),
        handle(this, &rx_session_state::on_peer_lost),
        handle(this, &rx_session_state::on_process_gone),
        handle(this, &rx_session_state::on_receive),
        handle(this, &rx_session_state::on_bind),
        handle(this, &rx_session_state::on_started),
        handle(this, &rx_session_state::on_kv_result),
        handle(this, &rx_session_state::on_aux_result),
        handle(this, &rx_session_state::on_peer_cancel),
        handle(this, &rx_session_state::on_gone),
        handle(this, &rx_session_state::on_refused),
        handle(this, &rx_session_state::on_renew),
        handle(this, &rx_session_state::on_host_cancel),
        handle(this, &rx_session_state::on_deadline),
        handle(this, &rx_session_state::on_owner_ended),
        handle(this, &rx_session_state::on_status),
    };
}

void rx_session_state::handler_failed(const caf::error& reason) {
    finish(session_state::error, reason);
}

// -- the host -----------------------------------------------------------------------------------

void rx_session_state::on_receive(const receive_slice& message) {
    slice_index index{static_cast<std::uint32_t>(pieces_.size())};
    auto late = host_gave_all();
    pieces_.push_back({message.slice, false});
    if (late && !finished_)
        finish(session_state::error,
               make_error(errc::invalid_argument, "rid " + to_string(with_.request)
                                                      + ": receive slice " + to_string(index)
                                                      + " comes after the last one"));
    if (!finished_)
        if (auto problem = check_tokens(message.slice))
            finish(session_state::error,
                   add_context(problem, "rid " + to_string(with_.request) + ": receive slice "
                                            + to_string(index)));
    if (finished_) {
        if (!std::exchange(pieces_.back().told_host, true))
            tell(self_, with_.observer,
                 piece_finished{side::generation, with_.request, with_.attempt, payload_kind::kv,
                                index,
                                error_ ? error_ : make_error(errc::gone, "the session has ended")});
        return;
    }
    touched_.push_back(index.value);
    for (auto& [rank, from] : writers_)
        publish(from);
    update();
}

void rx_session_state::on_host_cancel(const cancel_request& message) {
    if (planted(planted_bug::outcome_changes))
        finished_ = false;
    auto reason =
        message.reason ? message.reason : make_error(errc::cancelled, "the host cancelled");
    finish(outcome_of(reason), reason);
}

void rx_session_state::on_deadline(const deadline_tick&) {
    finish(session_state::error,
           make_error(errc::deadline_exceeded, "rid " + to_string(with_.request) + " on "
                                                   + describe(with_.self) + " waited for "
                                                   + text_of(waits())));
}

/// Without the receiver no report and no proof arrives here any more: exposed pages stay on loan.
void rx_session_state::on_owner_ended(const owner_ended&) {
    finish(session_state::error,
           make_error(errc::handler_failed, "rid " + to_string(with_.request) + ": the receiver of "
                                                + describe(with_.self) + " died"));
}

caf::result<session_status> rx_session_state::on_status(const query_status&) {
    auto waiting = waits();
    auto text = text_of(waiting);
    return session_status{side::generation,   with_.request,   with_.attempt,     state_,
                          release_.writers(), std::move(text), std::move(waiting)};
}

// -- writers ------------------------------------------------------------------------------------

void rx_session_state::on_bind(const bind_writers& message) {
    if (message.error) {
        finish(session_state::error, message.error);
        return;
    }
    if (std::exchange(bound_, true))
        return;
    layers_skipped_ = message.layers_skipped;
    roles_skipped_ = message.roles_skipped;
    for (const auto& binding : message.writers) {
        writers_[binding.rank].binding = binding;
        writers_[binding.rank].summary.rank = binding.rank;
    }
    update();
}

void rx_session_state::on_peer_ready(const peer_ready& message) {
    auto* from = writer_of(message.peer->info.incarnation);
    if (!from || from->peer)
        return;
    from->peer = message.peer;
    from->left = false;
    ask_again(*from);
    publish(*from);
}

/// Over a new link to the same process: what was said over the former one may be lost. Asking the
/// same for the same attempt is idempotent: the writer reports once more what it has reported.
void rx_session_state::ask_again(writer& from) {
    if (finished_ || from.dismissed) {
        if (release_.of(from.binding.rank) == exposure::exposed && !from.told_by_owner)
            cancel(from, error_ ? error_ : make_error(errc::not_selected, "it is not needed"));
        return;
    }
    for (const auto& [index, reports] : from.reports)
        if (!reports.complete() || (from.binding.aux && !from.aux_reported))
            request(from, index);
}

/// Asks a writer for every slice that it has not been asked for yet. From here on it may write.
void rx_session_state::publish(writer& from) {
    if (finished_ || !from.peer || from.dismissed)
        return;
    for (auto number = static_cast<std::uint32_t>(from.reports.size()); number < pieces_.size();
         ++number) {
        slice_index index{number};
        from.reports[index];
        ++from.incomplete;
        request(from, index);
        state_ = std::max(state_, session_state::transferring);
    }
}

void rx_session_state::request(writer& from, slice_index index) {
    from.wait = from.peer->awaited.lock();
    if (from.binding.kv) {
        if (with_.fabric && !std::exchange(allowed_, true)) // it hears this before the link does
            tell(self_, with_.fabric, allow_writes{with_.attempt});
    }
    send(from, request_for(from, index));
}

/// A link that has ended meanwhile says that the request never left.
void rx_session_state::send(const writer& from, request_data request) {
    const auto rank = from.binding.rank;
    if (request.kv)
        release_.expose(rank, with_.fabric && with_.by_message && !may_map(from));
    ask(self_, from.peer->link, send_message{std::move(request)})
        .then([] {},
              [this, rank, kv = from.binding.kv](const caf::error&) {
                  if (kv)
                      release_.never_left(rank);
                  release_if_quiet();
              });
}

/// Only the death of a watched process ends its writes through a mapping.
bool rx_session_state::may_map(const writer& from) const {
    return from.peer->process_watched && !planted(planted_bug::forbid_covers_mappings);
}

request_data rx_session_state::request_for(const writer& from, slice_index index) const {
    request_data result;
    result.header.request = with_.request;
    result.header.attempt = with_.attempt;
    result.header.receive_slice = index;
    result.header.writer = from.binding.rank;
    result.header.kind = from.binding.kv ? payload_kind::kv : payload_kind::aux;
    result.target = pieces_[index.value].slice;
    result.kv = from.binding.kv;
    result.aux = from.binding.aux && index.value == 0 ? aux_mode::required : aux_mode::none;
    result.receivers = from.binding.receivers;
    if (!result.kv)
        result.target.groups.clear();
    result.digest = result.kv && with_.checker && with_.checker->can_check(from.peer->info);
    result.may_map = from.peer->process_watched;
    return result;
}

/// A writer whose host has not opened the session yet forgets requests that are not renewed.
void rx_session_state::on_renew(const renew_requests&) {
    if (finished_)
        return;
    for (const auto& [rank, from] : writers_) {
        if (!from.peer || from.dismissed)
            continue;
        for (const auto& [index, reports] : from.reports) {
            if (!reports.silent() || (!from.binding.kv && from.aux_reported))
                continue;
            auto again = request_for(from, index);
            again.renewal = true;
            send(from, std::move(again));
        }
    }
}

// -- which DP group -----------------------------------------------------------------------------

/// True when at most one DP group is left.
bool rx_session_state::selected() const {
    const writer* first = nullptr;
    for (const auto& [rank, from] : writers_) {
        if (from.dismissed)
            continue;
        if (first && first->binding.dp_rank != from.binding.dp_rank)
            return false;
        first = &from;
    }
    return true;
}

/// The first report says which group runs the request; the others are told to forget it.
void rx_session_state::select(const writer& from) {
    if (finished_ || std::exchange(transferring_, true))
        return;
    tell(self_, with_.owner,
         session_transferring{with_.request, with_.attempt, from.binding.dp_rank});
    dismiss_others(from);
}

void rx_session_state::dismiss_others(const writer& from) {
    if (selected())
        return;
    const auto group = from.binding.dp_rank;
    auto reason =
        make_error(errc::not_selected, "rid " + to_string(with_.request) + " runs on DP rank "
                                           + std::to_string(group) + " of the context");
    for (auto& [rank, other] : writers_)
        if (other.binding.dp_rank != group)
            dismiss(other, reason);
}

void rx_session_state::dismiss(writer& from, const caf::error& reason) {
    all_touched_ = true;
    if (!std::exchange(from.dismissed, true) && !planted(planted_bug::not_selected_not_told))
        cancel(from, reason);
}

/// Another group may still run the request; if no other is left, the session ends.
void rx_session_state::group_failed(const writer& from, const caf::error& reason) {
    if (from.dismissed || finished_)
        return;
    if (selected()) {
        finish(outcome_of(reason), explain(reason, from));
        return;
    }
    for (auto& [rank, other] : writers_)
        if (other.binding.dp_rank == from.binding.dp_rank)
            dismiss(other, reason);
}

/// A group that had a session for the request is the one that runs it: the others are dismissed.
void rx_session_state::session_failed(const writer& from, const caf::error& reason) {
    if (from.dismissed || finished_)
        return;
    dismiss_others(from);
    group_failed(from, reason);
}

/// Tells a writer, if it was asked, that this attempt needs nothing from it any more. False: it
/// was not asked, or its link is lost.
bool rx_session_state::cancel(const writer& from, const caf::error& reason) {
    if (!from.peer || from.reports.empty())
        return false;
    cancel_session message;
    message.header.request = with_.request;
    message.header.attempt = with_.attempt;
    message.header.writer = from.binding.rank;
    message.to = side::context;
    message.reason = to_wire(reason);
    tell(self_, from.peer->link, send_message{std::move(message)});
    return true;
}

void rx_session_state::on_started(const transfer_started& message) {
    auto* from = writer_of(message.header.sender);
    if (!from || !from->reports.contains(message.header.receive_slice))
        return count(with_.counters, ignored::unasked);
    if (finished_)
        return count(with_.counters, ignored::late);
    from->started = true;
    select(*from);
}

void rx_session_state::on_kv_result(const kv_agent_result& message) {
    const auto& header = message.header;
    auto* from = writer_of(header.sender);
    if (planted(planted_bug::writer_mixed_up) && from)
        from = &writers_.begin()->second;
    else if (!from || !from->binding.kv || from->binding.rank != header.writer)
        return count(with_.counters, ignored::foreign_rank);
    auto asked = from->reports.find(header.receive_slice);
    if (asked == from->reports.end())
        return count(with_.counters, ignored::unasked);
    const auto was_complete = asked->second.complete();
    if (auto heard = asked->second.add(header.piece); heard != piece_ledger::verdict::fresh)
        return count(with_.counters, heard == piece_ledger::verdict::duplicate
                                         ? ignored::duplicate
                                         : ignored::contradiction);
    if (!was_complete && asked->second.complete()) {
        --from->incomplete;
        touched_.push_back(header.receive_slice.value);
    }
    select(*from);
    from->summary.bytes += message.bytes;
    from->summary.fragments += message.fragments;
    from->summary.route = message.route;
    if (planted(planted_bug::one_failure_frees_all) && message.result != agent_result::success)
        for (const auto& [rank, sibling] : writers_)
            release_.gone_and_drained(rank);
    from->failed = from->failed || message.result != agent_result::success;
    if (message.result == agent_result::in_doubt)
        release_.reported_in_doubt(from->binding.rank);
    settle(*from);
    if (auto failure = failure_of(*from, message); failure && !from->dismissed)
        finish(outcome_of(failure), explain(failure, *from));
    update();
    release_if_quiet();
}

caf::error rx_session_state::failure_of(writer& from, const kv_agent_result& report) {
    if (report.result != agent_result::success)
        return reason_of(report.error);
    if (!report.digest || !with_.checker || !from.peer
        || !with_.checker->can_check(from.peer->info))
        return {};
    ++from.summary.digests;
    const auto& asked = pieces_[report.header.receive_slice.value].slice;
    return with_.checker->check(from.peer->info, asked, report);
}

void rx_session_state::on_aux_result(const aux_agent_result& message) {
    auto* from = writer_of(message.header.sender);
    if (planted(planted_bug::early_aux_dropped) && from && from->summary.bytes == 0)
        return;
    if (!from || !from->binding.aux)
        return count(with_.counters, ignored::foreign_rank);
    if (std::exchange(from->aux_reported, true))
        return count(with_.counters, ignored::duplicate);
    if (finished_)
        return count(with_.counters, ignored::late);
    select(*from);
    if (from->dismissed)
        return;
    auto failure = message.result == agent_result::success
                       ? check_aux_size(message.record, with_.bounds.aux_bytes_max)
                       : reason_of(message.error);
    if (failure) {
        finish(outcome_of(failure), explain(failure, *from));
        return;
    }
    aux_ = message.record;
    update();
}

void rx_session_state::on_peer_cancel(const cancel_session& message) {
    auto* from = writer_of(message.header.sender);
    if (planted(planted_bug::cancel_ping_pong) && from && from->peer)
        tell(self_, from->peer->link,
             send_message{cancel_session{message.header, side::context, message.reason}});
    if (!from)
        return count(with_.counters, ignored::foreign_rank);
    if (finished_)
        count(with_.counters, ignored::late);
    session_failed(*from, reason_of(message.reason));
}

void rx_session_state::on_gone(const gone& message) {
    writer_refuses(message.header, message.reason);
}

void rx_session_state::on_refused(const refused& message) {
    writer_refuses(message.header, message.reason);
}

/// The writer does not serve what its answer is about: one slice when it answers a request_data,
/// the whole attempt when it answers a cancel_session, after which no request comes.
void rx_session_state::writer_refuses(const message_header& header, const wire_error& why) {
    auto* from = writer_of(header.sender);
    if (!from)
        return count(with_.counters, ignored::foreign_rank);
    if (is_about_the_request(why.code))
        session_failed(*from, reason_of(why));
    else
        from->unaware = true;
    auto already_resolved = resolved(*from);
    for (auto& [index, report] : from->reports)
        // A renewal that crossed the last report is answered `gone`: what was served stays served.
        if ((header.kind == payload_kind::none || index == header.receive_slice)
            && (!report.complete() || planted(planted_bug::gone_undoes_service))) {
            from->incomplete -= report.complete() ? 0 : 1;
            report.refuse();
        }
    if (!already_resolved)
        group_failed(*from, reason_of(why));
    settle(*from);
    release_if_quiet();
}

void rx_session_state::on_peer_lost(const peer_lost& message) {
    auto* from = writer_of(message.peer);
    if (!from)
        return;
    from->peer.reset();
    from->left = code_of(message.reason) != errc::link_lost;
    if (resolved(*from) || (message.dialled_again && !has_begun(*from)))
        return; // nothing is needed of it, or it will be asked again
    if (planted(planted_bug::link_loss_is_proof))
        release_.gone_and_drained(from->binding.rank);
    group_failed(*from, message.reason);
}

void rx_session_state::on_process_gone(const process_gone& message) {
    auto* from = writer_of(message.peer);
    if (!from)
        return;
    release_.gone_and_drained(from->binding.rank);
    from->left = true;
    if (!resolved(*from)) // it was to be asked again
        group_failed(*from, make_error(errc::peer_gone, "its process is gone"));
    release_if_quiet();
}

/// It may have written something: then the former link may have taken its reports along.
bool rx_session_state::has_begun(const writer& from) {
    return from.started || std::any_of(from.reports.begin(), from.reports.end(), [](const auto& x) {
               return !x.second.silent();
           });
}

rx_session_state::writer* rx_session_state::writer_of(incarnation peer) {
    auto found = std::find_if(writers_.begin(), writers_.end(), [peer](const auto& entry) {
        return entry.second.binding.incarnation == peer;
    });
    return found == writers_.end() ? nullptr : &found->second;
}

/// Marks the writer quiet when it has reported every slice completely and will not be asked again.
void rx_session_state::settle(writer& from) {
    if (from.incomplete == 0 && (finished_ || host_gave_all()))
        release_.reported_quiet(from.binding.rank);
}

bool rx_session_state::served(const writer& from, slice_index index) const {
    auto found = from.reports.find(index);
    return from.dismissed || !from.binding.kv
           || (found != from.reports.end() && found->second.served());
}

/// True when the session needs nothing more from this writer.
bool rx_session_state::resolved(const writer& from) const {
    if (from.dismissed)
        return true;
    if (from.binding.aux && !from.aux_reported)
        return false;
    const auto reported = from.incomplete == 0 && from.reports.size() == pieces_.size();
    return (reported || !from.binding.kv) && host_gave_all();
}

// -- outcome and release ------------------------------------------------------------------------

bool rx_session_state::host_gave_all() const {
    return !pieces_.empty() && pieces_.back().slice.last;
}

void rx_session_state::tell_served(std::uint32_t number) {
    const auto done =
        std::all_of(writers_.begin(), writers_.end(),
                    [this, number](const auto& entry) { return served(entry.second, {number}); });
    if (!done || std::exchange(pieces_[number].told_host, true))
        return;
    ++pieces_told_;
    tell(self_, with_.observer,
         piece_finished{
             side::generation, with_.request, with_.attempt, payload_kind::kv, {number}, {}});
}

void rx_session_state::update() {
    if (finished_ || !bound_ || !selected())
        return;
    if (std::exchange(all_touched_, false)) {
        for (std::uint32_t number = 0; number < pieces_.size(); ++number)
            tell_served(number);
    } else {
        for (auto number : touched_)
            tell_served(number);
    }
    touched_.clear();
    auto kv_done = host_gave_all() && pieces_told_ == pieces_.size();
    if (planted(planted_bug::aux_before_kv) && aux_)
        kv_done = true;
    if (!kv_done)
        return;
    state_ = std::max(state_, session_state::kv_transferred);
    if (with_.aux == aux_mode::none || planted(planted_bug::aux_not_awaited))
        finish(session_state::kv_transferred, {});
    else if (aux_)
        finish(session_state::fully_transferred, {});
}

void rx_session_state::finish(session_state outcome, const caf::error& reason) {
    if (std::exchange(finished_, true))
        return;
    state_ = outcome;
    error_ = reason;
    session_finished result{side::generation, with_.request, with_.attempt, outcome, reason, {}, {},
                            layers_skipped_,  roles_skipped_};
    if (!reason && aux_)
        result.aux = *aux_;
    for (std::uint32_t number = 0; number < pieces_.size(); ++number)
        if (!std::exchange(pieces_[number].told_host, true))
            tell(self_, with_.observer,
                 piece_finished{side::generation,
                                with_.request,
                                with_.attempt,
                                payload_kind::kv,
                                {number},
                                reason});
    std::vector<rank_id> untold;
    for (auto& [rank, from] : writers_) {
        result.peers.push_back(from.summary);
        settle(from);
        // Also tell a writer that has done its part: it may wait for siblings of this rank, and
        // they fail too.
        const auto alone = from.binding.receivers.size() <= 1;
        const auto done = resolved(from) && !from.unaware && (from.failed || alone);
        const auto knows = from.dismissed || from.left || done;
        if (!reason || knows || planted(planted_bug::cancel_not_sent) || cancel(from, reason))
            continue;
        from.told_by_owner = !release_.only_it_can_free(rank); // otherwise ask_again() tells it
        if (from.told_by_owner)
            untold.push_back(rank);
    }
    tell(self_, with_.observer, std::move(result));
    tell(self_, with_.owner,
         session_ended{with_.request, with_.attempt, reason, std::move(untold)});
    forbid();
    release_if_quiet();
}

/// The attempt is over: this rank lets nothing of it in any more. Of writers that can only send
/// messages that is proof, however late they are and whatever became of them.
void rx_session_state::forbid() {
    if (!std::exchange(allowed_, false))
        return;
    if (release_.released()) // nobody waits for it
        return tell(self_, with_.fabric, forbid_writes{with_.attempt});
    if (planted(planted_bug::forbid_not_awaited))
        release_.forbidden();
    ask(self_, with_.fabric, forbid_writes{with_.attempt})
        .then(
            [this] {
                if (with_.by_message)
                    release_.forbidden();
                release_if_quiet();
            },
            [](const caf::error&) {
                // The fabric is gone: it proves nothing any more.
            });
}

void rx_session_state::release_if_quiet() {
    auto careless =
        (planted(planted_bug::release_on_timeout) && code_of(error_) == errc::deadline_exceeded)
        || (planted(planted_bug::release_on_cancel) && state_ == session_state::cancelled);
    if (!finished_ || (!release_.released() && !careless) || std::exchange(released_, true))
        return;
    tell(self_, with_.observer, session_released{side::generation, with_.request, with_.attempt});
    if (!planted(planted_bug::session_never_forgotten))
        tell(self_, with_.owner, session_retired{with_.request, with_.attempt, error_});
    self_->quit();
}

std::vector<session_wait> rx_session_state::waits() const {
    std::vector<session_wait> result;
    const auto place = [](const writer& from) {
        return from.binding.instance + "/" + to_string(from.binding.rank);
    };
    if (finished_) {
        for (const auto& [rank, state] : release_.writers())
            if (state == exposure::exposed || state == exposure::in_doubt)
                result.push_back({"proof that context rank " + to_string(rank) + " writes no more ("
                                      + to_string(state) + ")",
                                  "tx_session", place(writers_.at(rank))});
        return result;
    }
    if (!bound_)
        return {{"the context instance's rank infos", "rank_info_server", with_.context_endpoint}};
    if (!host_gave_all())
        return {{"the host's last receive(slice)", "host"}};
    for (const auto& [rank, from] : writers_) {
        if (from.dismissed)
            continue;
        if (!from.peer)
            result.push_back(
                {"a link to context rank " + to_string(rank), "peer_link", place(from)});
        else if (!resolved(from))
            result.push_back(
                {"reports of context rank " + to_string(rank), "tx_session", place(from)});
    }
    return result;
}

caf::error rx_session_state::explain(const caf::error& reason, const writer& from) const {
    return add_context(reason, "rid " + to_string(with_.request) + " from context rank "
                                   + to_string(from.binding.rank));
}

} // namespace kvferry
