// SPDX-License-Identifier: Apache-2.0
// What a tx_session does for receivers: pieces, their reports, and what is still under way.
#include "actors/context/tx_session.hpp"
#include "messages/local/fabric.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/planted_bug.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/planner/cohorts.hpp"
#include "transport/planner/piece_digest.hpp"
#include "transport/planner/plan_check.hpp"
#include "transport/planner/topology.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// A small copy is cheap either way, and its reader profits from finding it in the cache. A larger
/// one bypasses the caches when the peer's pools are too large for them anyway.
bool past_cache(std::uint64_t bytes, const peer_view& peer, const limits& bounds) {
    return bytes > bounds.inline_copy_bytes_max
           && std::any_of(peer.regions.begin(), peer.regions.end(), [&](const memory_region& x) {
                  return x.bytes >= bounds.past_cache_region_bytes_min;
              });
}

} // namespace

// -- receivers ----------------------------------------------------------------------------------

void tx_session_state::on_bind(const bind_receiver& message) {
    const auto& header = message.request.header;
    auto rank = message.peer->info.rank;
    auto bound = attempts_.find(rank);
    auto foreign = bound != attempts_.end() && bound->second != header.attempt;
    receiver_key key{rank, header.receive_slice};
    if (planted(planted_bug::foreign_attempt_ignored) && foreign)
        return;
    if (auto known = receivers_.find(key);
        !foreign && known != receivers_.end() && known->second.lost)
        return relink(known->second, message.peer);
    if (!foreign && receivers_.contains(key) && !planted(planted_bug::request_served_twice)) {
        if (!message.request.renewal)
            count(with_.environment->counters, ignored::duplicate);
        return;
    }
    if (foreign || finished_) {
        answer_late(message);
        return;
    }
    // The request that it renews was answered `gone` when its lease ended: its pages may be in
    // other use by now.
    if (message.request.renewal && !receivers_.contains(key)
        && !planted(planted_bug::forgotten_request_served)) {
        auto reason =
            make_error(errc::gone, "rid " + to_string(with_.request) + " of "
                                       + describe(message.peer->info) + " is not waiting any more");
        tell(self_, message.peer->link,
             send_message{gone{header, side::generation, to_wire(reason)}});
        return;
    }
    auto first = bound == attempts_.end();
    attempts_.emplace(rank, header.attempt);
    std::erase_if(left_, [rank](const auto& entry) { return entry.second == rank; });
    expected_.insert(rank);
    if (!planted(planted_bug::one_receiver_is_all))
        expected_.insert(message.request.receivers.begin(), message.request.receivers.end());
    auto& to = receivers_[key];
    to.request = message.request;
    to.peer = message.peer;
    to.wait = message.peer->awaited.lock();
    to.summary.rank = rank;
    if (auto problem = check_request(message)) {
        if (first) {
            to.closed = problem;
            to.last_reported = true; // the refusal is the report
            if (!planted(planted_bug::refusal_not_sent))
                tell_peer(to, refused{header, side::generation, to_wire(problem)});
        } else {
            close(to, problem);
        }
        finish(session_state::error, problem);
        return;
    }
    dispatch_all(to);
    if (aux_)
        deliver_aux(to);
    update();
}

/// Answers a request that is not served. `gone` would speak for the whole attempt. The attempt that
/// this session is bound to may still have something in flight, so it gets a report about this
/// slice instead.
void tx_session_state::answer_late(const bind_receiver& message) {
    const auto& header = message.request.header;
    auto rank = message.peer->info.rank;
    auto text = "rid " + to_string(with_.request) + " of " + describe(message.peer->info);
    auto bound = attempts_.find(rank);
    const auto ours = bound != attempts_.end() && bound->second == header.attempt;
    count(with_.environment->counters,
          ours || bound == attempts_.end() ? ignored::late : ignored::foreign_attempt);
    if (!ours) {
        auto reason = bound != attempts_.end()
                          ? make_error(errc::gone, text + " is bound to another attempt")
                      : error_ ? error_
                               : make_error(errc::gone, text + " comes after its session's end");
        tell(self_, message.peer->link,
             send_message{gone{header, side::generation, to_wire(reason)}});
        return;
    }
    auto& to = receivers_[{rank, header.receive_slice}];
    to.request = message.request;
    to.peer = message.peer;
    to.summary.rank = rank;
    to.closed = error_ ? error_ : make_error(errc::gone, text + " comes after its session's end");
    report_closing(to);
}

/// The same answer as should_send_kv, but from the templates that a plan needs anyway: those are
/// cached, while matching two layouts again takes longer than a small transfer.
caf::expected<bool> tx_session_state::brings_kv_to(const rank_info& peer) const {
    const auto& environment = *with_.environment;
    auto layout = environment.plans->find_or_make(environment.self, peer);
    if (!layout)
        return std::move(layout.error());
    return !(*layout)->empty();
}

/// Both sides must compute the same cohorts: otherwise one waits for what the other never sends.
caf::error tx_session_state::check_request(const bind_receiver& message) const {
    const auto& self = with_.environment->self;
    const auto& peer = message.peer->info;
    auto text = "rid " + to_string(with_.request) + " from " + describe(peer) + ": ";
    for (const auto& group : message.request.target.groups)
        if (group.slots.size() > with_.environment->bounds.blocks_per_slice_max)
            return make_error(
                errc::limit_exceeded,
                text + std::to_string(group.slots.size())
                    + " blocks in one layer group are more than blocks_per_slice_max = "
                    + std::to_string(with_.environment->bounds.blocks_per_slice_max));
    if (!self.pages || !peer.pages)
        return make_error(errc::missing_layout,
                          text + describe(self.pages ? peer : self) + " published no page table");
    if (auto problem = check_fingerprints(self, peer))
        return add_context(problem, text);
    const auto brings_kv = brings_kv_to(peer);
    if (!brings_kv)
        return add_context(brings_kv.error(), text);
    if (message.request.kv != *brings_kv)
        return make_error(errc::layout_mismatch, text + "it asks " + describe(self) + " for KV = "
                                                     + std::to_string(message.request.kv)
                                                     + ", but the layouts say the opposite");
    if (message.request.aux == aux_mode::required && !should_send_aux(self, peer))
        return make_error(errc::layout_mismatch, text + "it asks " + describe(self)
                                                     + " for aux, which another rank sends");
    if (message.request.aux == aux_mode::required && with_.aux == aux_mode::none)
        return make_error(errc::invalid_argument,
                          text + "it requires aux, but the sending session was opened without");
    return {};
}

void tx_session_state::dispatch_all(receiver& to) {
    for (std::uint32_t index = 0; index < pieces_.size() && !finished_; ++index)
        dispatch(to, index);
}

void tx_session_state::dispatch(receiver& to, std::uint32_t index) {
    if (!to.request.kv || to.closed || finished_)
        return;
    const auto taken = clock::now();
    const auto& slice = pieces_[index].slice;
    send_piece piece{{index}, slice.last};
    if (!std::exchange(transferring_, true))
        tell(self_, with_.owner, session_transferring{with_.request, {}, 0});
    to.dispatched = index + 1;
    to.unreported.insert(index);
    const auto& environment = *with_.environment;
    const auto& peer = *to.peer;
    if (planted(planted_bug::implied_block_start))
        for (auto& group : to.request.target.groups)
            group.first_block = slice.groups.empty() ? 0 : slice.groups[0].first_block;
    auto plan =
        make_plan(environment.self, slice, peer.info, to.request.target, *environment.plans);
    auto problem = plan ? check_plan(*plan, *environment.self.pages, environment.regions,
                                     *peer.info.pages, peer.regions)
                        : plan.error();
    if (problem) {
        piece_failed(
            to, piece, agent_result::failed,
            add_context(problem, "rid " + to_string(with_.request) + " to " + describe(peer.info)));
        return;
    }
    if (plan->bytes == 0) {
        piece_served(to, piece, *plan);
        return;
    }
    start(to, piece, std::make_shared<const copy_plan>(std::move(*plan)), taken);
}

void tx_session_state::start(receiver& to, send_piece piece,
                             const std::shared_ptr<const copy_plan>& plan, time_point taken) {
    const auto& environment = *with_.environment;
    auto chosen =
        choose_route(*plan, environment.memory, *to.peer, environment.route, to.request.may_map);
    const auto& events = pieces_[piece.index.value].events;
    auto problem = chosen ? caf::error{} : chosen.error();
    auto by_device = chosen && chosen->device >= 0;
    if (!problem && !by_device && (events.wait_for || events.completed))
        problem =
            make_error(errc::unsupported, "rid " + to_string(with_.request)
                                              + ": a slice with device events goes by "
                                              + chosen->text + ", which does not support events");
    if (problem) {
        piece_failed(to, piece, agent_result::failed, problem);
        return;
    }
    to.summary.route = chosen->text;
    if (chosen->taken != route::mapped && environment.route == route_choice::automatic
        && to.peer->info.machine == environment.self.machine)
        environment.downgrades->note(environment.self, to.peer->info, chosen->text);
    const auto bytes = plan->bytes;
    copy_job job{plan, environment.source_pools, std::move(chosen->target_pools),
                 std::move(chosen->holds), past_cache(bytes, *to.peer, environment.bounds)};
    to.summary.posting += clock::now() - taken;
    auto by_host = chosen->taken == route::mapped && !by_device;
    if (by_host && bytes <= environment.bounds.inline_copy_bytes_max) {
        record_io(self_, trace::instant::io_begin, "copy (mapped, inline)", 0, bytes,
                  with_.request.value);
        copy_now(job);
        record_io(self_, trace::instant::io_end, "copy (mapped, inline)", 0, bytes,
                  with_.request.value);
        piece_served(to, piece, *plan);
        return;
    }
    transfer_id id{(std::uint64_t{with_.serial} << 32) | transfers_started_++};
    copy_actor copier;
    staged_put_actor staged;
    if (by_device && chosen->taken == route::staged)
        staged = environment.staged.at(chosen->device);
    else if (by_device)
        copier = environment.devices.at(chosen->device);
    else if (by_host)
        copier = environment.copy;
    to.in_flight.emplace(id, flight{piece, copier, staged, plan});
    if (planted(planted_bug::report_before_visible)) {
        to.in_flight.erase(id);
        piece_served(to, piece, *plan);
    }
    tell_started(to);
    if (copier)
        tell(self_, copier, start_copy{id, std::move(job), self_, events});
    else if (staged)
        tell(self_, staged,
             start_put{id, to.peer->endpoint, std::move(job), self_, events,
                       to.request.header.attempt});
    else
        tell(
            self_, environment.fabric,
            start_put{id, to.peer->endpoint, std::move(job), self_, {}, to.request.header.attempt});
}

void tx_session_state::on_done(const transfer_done& message) {
    auto found = std::find_if(receivers_.begin(), receivers_.end(), [&](const auto& entry) {
        return entry.second.in_flight.contains(message.id);
    });
    if (found == receivers_.end())
        return;
    auto& to = found->second;
    to.summary.posting += message.posting;
    in_doubt_ = in_doubt_ || message.result == agent_result::in_doubt;
    auto flying = to.in_flight.extract(message.id).mapped();
    if (message.result == agent_result::in_doubt && flying.copier)
        undecided_ =
            message.error ? message.error : make_error(errc::transfer_in_doubt, "no reason given");
    if (message.result == agent_result::success)
        piece_served(to, flying.piece, *flying.plan);
    else
        piece_failed(to, flying.piece, message.result,
                     add_context(message.error, "rid " + to_string(with_.request) + " to "
                                                    + describe(to.peer->info)));
    report_closing(to);
    update();
    release_if_quiet();
}

void tx_session_state::piece_served(receiver& to, send_piece piece, const copy_plan& plan) {
    to.summary.bytes += plan.bytes;
    to.summary.fragments += plan.fragments;
    pieces_[piece.index.value].served.insert({to.peer->info.rank, to.request.header.receive_slice});
    touched_.push_back(piece.index.value);
    kv_agent_result report;
    report.bytes = plan.bytes;
    report.fragments = plan.fragments;
    const auto& environment = *with_.environment;
    if (to.request.digest && readable_by_host(environment.memory))
        report.digest = {pieces_[piece.index.value].slice.tokens,
                         digest_of_sources(plan, environment.source_pools)};
    report_kv(to, piece, std::move(report));
}

void tx_session_state::piece_failed(receiver& to, send_piece piece, agent_result result,
                                    const caf::error& why) {
    auto reason = why ? why : make_error(errc::transfer_failed, "no reason given");
    report_failed(to, piece, result, reason);
    close(to, reason);
    finish(session_state::error, reason);
}

void tx_session_state::deliver_aux(receiver& to) {
    if (to.request.aux != aux_mode::required || to.aux_reported || to.closed)
        return;
    to.aux_reported = true;
    auto header = to.request.header;
    header.kind = payload_kind::aux;
    header.writer = with_.environment->self.rank;
    tell_peer(to, aux_agent_result{header, agent_result::success, *aux_, {}});
}

void tx_session_state::on_unbind(const unbind_receiver& message) {
    const auto& header = message.cancel.header;
    auto rank = message.peer->info.rank;
    auto bound = attempts_.find(rank);
    auto reason = from_wire(message.cancel.reason);
    if (!reason)
        reason = make_error(errc::cancelled, describe(message.peer->info) + " cancelled");
    if (bound == attempts_.end() || bound->second != header.attempt) {
        auto unknown =
            make_error(errc::gone, "rid " + to_string(with_.request) + " knows no attempt "
                                       + to_string(header.attempt));
        tell(self_, message.peer->link,
             send_message{gone{header, side::generation, to_wire(unknown)}});
        if (bound != attempts_.end())
            count(with_.environment->counters, ignored::foreign_attempt);
        else // it will not ask
            finish(outcome_of(reason), reason);
        return;
    }
    for (auto& [key, to] : receivers_)
        if (key.first == rank && to.lost)
            relink(to, message.peer);
    if (planted(planted_bug::cancel_ping_pong))
        tell(self_, message.peer->link,
             send_message{cancel_session{header, side::generation, to_wire(reason)}});
    if (finished_)
        count(with_.environment->counters, ignored::late);
    finish(outcome_of(reason), reason);
}

void tx_session_state::on_gone(const gone& message) {
    auto why = from_wire(message.reason);
    if (!why)
        why = make_error(errc::gone, "the peer gave no reason");
    if (finished_)
        count(with_.environment->counters, ignored::late);
    for (auto& [key, to] : receivers_)
        if (to.peer->info.incarnation == message.header.sender && !complete(to)
            && to.request.header.attempt == message.header.attempt)
            finish(session_state::error, add_context(why, describe(to.peer->info)));
}

void tx_session_state::on_peer_ready(const peer_ready&) {}

/// A receiver that was given nothing yet may ask again over a new link: the session then waits for
/// it as if it had not asked. One whose rank has given the link up does not come back.
void tx_session_state::on_peer_lost(const peer_lost& message) {
    const auto may_ask_again = code_of(message.reason) == errc::link_lost;
    std::erase_if(receivers_, [this, &message, may_ask_again](const auto& entry) {
        const auto& [key, to] = entry;
        const auto waits = may_ask_again && to.peer->info.incarnation == message.peer && !to.lost
                           && !finished_ && !(complete(to) && asked_for_all(key.first))
                           && !has_begun(key.first);
        if (waits)
            left_[message.peer] = key.first;
        return waits;
    });
    if (auto left = left_.find(message.peer); left != left_.end() && !may_ask_again) {
        finish(session_state::error,
               add_context(message.reason, "rid " + to_string(with_.request) + " to rank "
                                               + to_string(left->second)));
    } else if (left != left_.end()) {
        attempts_.erase(left->second);
        all_touched_ = true;
    }
    for (auto& [key, to] : receivers_) {
        if (to.peer->info.incarnation != message.peer || to.lost)
            continue;
        to.lost = true;
        if (complete(to) && asked_for_all(key.first))
            continue;
        auto reason = add_context(message.reason, "rid " + to_string(with_.request) + " to "
                                                      + describe(to.peer->info));
        close(to, reason);
        finish(session_state::error, reason);
    }
}

/// A receiver's death frees nothing here: source pages wait for this rank's own operations. It only
/// ends the wait for one that might have asked again.
void tx_session_state::on_process_gone(const process_gone& message) {
    if (auto left = left_.find(message.peer); left != left_.end())
        finish(session_state::error,
               make_error(errc::peer_gone, "rid " + to_string(with_.request) + ": rank "
                                               + to_string(left->second)
                                               + " had asked, and its process is gone"));
}

bool tx_session_state::has_begun(rank_id rank) const {
    return std::any_of(receivers_.begin(), receivers_.end(), [rank](const auto& entry) {
        const auto& to = entry.second;
        return entry.first.first == rank && (to.dispatched > 0 || to.aux_reported || to.closed);
    });
}

/// The receiver has a new link. Reports may have been lost with the former one, so it gets them all
/// once more; it knows them by identity.
void tx_session_state::relink(receiver& to, const peer_view_ptr& peer) {
    to.peer = peer;
    to.lost = false;
    for (const auto& report : to.told)
        tell(self_, to.peer->link, send_message{report});
    report_closing(to);
}

// -- reports ------------------------------------------------------------------------------------

void tx_session_state::report_failed(receiver& to, send_piece piece, agent_result result,
                                     const caf::error& reason) {
    kv_agent_result report;
    report.result = result;
    report.error = to_wire(reason);
    report_kv(to, piece, std::move(report));
}

void tx_session_state::report_kv(receiver& to, send_piece piece, kv_agent_result report) {
    to.last_reported = to.last_reported || piece.last;
    to.unreported.erase(piece.index.value);
    report.header = to.request.header;
    report.header.kind = payload_kind::kv;
    report.header.writer = with_.environment->self.rank;
    report.header.piece = piece;
    report.route = to.summary.route;
    if (planted(planted_bug::slice_id_dropped))
        report.header.receive_slice = {0};
    if (planted(planted_bug::lost_report) && piece.index.value == 1)
        return;
    tell_peer(to, std::move(report));
}

/// Sends nothing more to this receiver and cancels what is in flight.
void tx_session_state::close(receiver& to, const caf::error& reason) {
    if (to.closed || planted(planted_bug::failure_not_told))
        return;
    to.closed = reason ? reason : make_error(errc::cancelled, "the transfer was given up");
    cancel_transfers(to);
    if (!complete(to)) // the outcome now, the proof later
        tell_peer(to, cancel_session{to.request.header, side::generation, to_wire(to.closed)});
    report_closing(to);
}

void tx_session_state::cancel_transfers(const receiver& to) {
    for (const auto& [id, flying] : to.in_flight) {
        if (flying.copier)
            tell(self_, flying.copier, cancel_transfer{id});
        else if (flying.staged)
            tell(self_, flying.staged, cancel_transfer{id});
        else
            tell(self_, with_.environment->fabric, cancel_transfer{id});
    }
}

/// Reports every piece that has no report yet as failed. Waits until the last transfer has ended:
/// these reports are the receiver's proof.
void tx_session_state::report_closing(receiver& to) {
    if (!to.closed || !to.in_flight.empty() || !to.request.kv)
        return;
    for (auto index : std::set{to.unreported})
        report_failed(to, {{index}, pieces_[index].slice.last}, agent_result::failed, to.closed);
    if (!to.last_reported)
        report_failed(to, {{to.dispatched}, true}, agent_result::failed, to.closed);
}

void tx_session_state::tell_started(receiver& to) {
    if (std::exchange(to.started, true))
        return;
    transfer_started notice{to.request.header};
    notice.header.kind = payload_kind::kv;
    notice.header.writer = with_.environment->self.rank;
    tell_peer(to, std::move(notice));
}

void tx_session_state::tell_peer(receiver& to, wire_message message) {
    if (std::holds_alternative<kv_agent_result>(message)
        || std::holds_alternative<aux_agent_result>(message))
        to.told.push_back(message);
    if (!to.lost)
        tell(self_, to.peer->link, send_message{std::move(message)});
}

} // namespace kvferry
