// SPDX-License-Identifier: Apache-2.0
// What a sending session does about its receivers: who asks, who gives up, whose link is lost.
#include "actors/decisions/sending/sending.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

using namespace sending_effects;

std::optional<attempt> sending::attempt_of(rank_id rank) const {
    const auto bound = attempts_.find(rank);
    return bound == attempts_.end() ? std::nullopt : std::optional{bound->second};
}

const sending_receiver* sending::find(const receiver_key& key) const {
    const auto known = receivers_.find(key);
    return known == receivers_.end() ? nullptr : &known->second;
}

void sending::handle(sending_events::asked& x, effects& out) {
    const auto& request = x.ask.request;
    const auto rank = x.ask.peer->info.rank;
    const auto bound = attempt_of(rank);
    const auto foreign = bound && *bound != request.header.attempt;
    const auto known = receivers_.find({rank, request.header.receive_slice});
    if (!foreign && known != receivers_.end()) {
        if (known->second.is_lost())
            known->second.relink(std::move(x.ask.peer), out);
        else if (!request.renewal)
            out.emplace_back(count_ignored{ignored::duplicate});
        return;
    }
    if (foreign || has_ended())
        return answer_late(std::move(x.ask), out);
    // The request that it renews was answered `gone` when its lease ended: its pages may be in
    // other use by now.
    if (request.renewal) {
        const auto why = make_error(errc::gone, "{} of {} is not waiting any more", text(),
                                    describe(x.ask.peer->info));
        out.emplace_back(
            tell_peer{x.ask.peer, gone{request.header, side::generation, to_wire(why)}});
        return;
    }
    attempts_.emplace(rank, request.header.attempt);
    relayed_ = relayed_ || (x.ask.peer->info.capabilities & capability::relays) != 0;
    std::erase_if(left_, [rank](const auto& entry) { return entry.second == rank; });
    expected_.insert(rank);
    expected_.insert(request.receivers.begin(), request.receivers.end());
    const receiver_key key{rank, request.header.receive_slice};
    auto& to =
        receivers_.emplace(key, sending_receiver{with_.self->rank, std::move(x)}).first->second;
    if (!x.problem)
        return go_on(out);
    if (bound)
        to.close(x.problem, out);
    else
        to.refuse(x.problem, out);
    fail(x.problem, out);
}

/// Answers a request that is not served. `gone` would speak for the whole attempt. The attempt that
/// this session is bound to may still have something in flight, so it gets a report about this
/// slice instead.
void sending::answer_late(bind_receiver ask, effects& out) {
    const auto& header = ask.request.header;
    const auto rank = ask.peer->info.rank;
    const auto bound = attempt_of(rank);
    const auto foreign = bound && *bound != header.attempt;
    const auto about = text() + " of " + describe(ask.peer->info);
    auto why =
        foreign ? make_error(errc::gone, "{} is bound to another attempt", about) : why_ended();
    if (!why)
        why = make_error(errc::gone, "{} comes after its session's end", about);
    out.emplace_back(count_ignored{foreign ? ignored::foreign_attempt : ignored::late});
    if (foreign || !bound) {
        out.emplace_back(tell_peer{ask.peer, gone{header, side::generation, to_wire(why)}});
        return;
    }
    const receiver_key key{rank, header.receive_slice};
    receivers_.emplace(key, sending_receiver{with_.self->rank, {std::move(ask), {}, {}}})
        .first->second.close_late(why, out);
}

// -- pieces -------------------------------------------------------------------------------------

/// False when there is none that waits.
bool sending::plan_next_piece(effects& out) {
    for (auto& [key, to] : receivers_) {
        if (!to.takes_pieces() || to.dispatched() >= pieces_.size())
            continue;
        if (auto* now = std::get_if<serving>(&phase_); !std::exchange(now->first_piece_told, true))
            out.emplace_back(tell_owner{session_transferring{with_.request, {}, 0}});
        const slice_index index{to.dispatched()};
        const auto& next = pieces_[index.value];
        planning_ = {key, index};
        to.plan({index, next.last()}, next.source, out);
        return true;
    }
    return false;
}

/// Gives the receivers what they lack and it has: pieces one after the other, then the aux record.
void sending::go_on(effects& out) {
    if (has_ended() || planning_ || plan_next_piece(out))
        return;
    if (aux_)
        for (auto& [key, to] : receivers_)
            to.deliver_aux(aux_->record, out);
    update(out);
}

void sending::handle(sending_events::piece_planned& x, effects& out) {
    if (planning_ != std::pair{x.to, x.index})
        return;
    planning_.reset();
    // Of a receiver that was closed meanwhile the piece is reported as failed, or will be.
    if (auto to = receivers_.find(x.to);
        to != receivers_.end() && !to->second.is_closed() && to->second.is_planning(x.index))
        to->second.launch(x, out);
    go_on(out);
}

void sending::handle(sending_events::piece_ended& x, effects& out) {
    const auto answers_plan = planning_ == std::pair{x.to, x.index};
    if (answers_plan)
        planning_.reset();
    const auto found = receivers_.find(x.to);
    if (found == receivers_.end())
        return go_on(out);
    auto& to = found->second;
    if (!to.is_under_way(x.index) && !(answers_plan && to.is_planning(x.index)))
        return go_on(out);
    if (x.result == agent_result::success) {
        pieces_[x.index.value].served.insert(x.to);
        touched_.push_back(x.index.value);
        to.end(x, out);
    } else {
        x.why = x.why ? x.why : make_error(errc::transfer_failed, "no reason given");
        if (x.result == agent_result::in_doubt && (!doubt_ || !x.by_messages))
            doubt_ = {x.by_messages, x.why};
        to.end(x, out);
        to.close(x.why, out);
        if (answers_plan)
            fail(x.why, out);
        else // its connection, or its memory: nothing that others have to do with
            fail_without(x.to.first, x.why, out);
    }
    to.report_closing(out);
    go_on(out);
    release_if_quiet(out);
}

// -- receivers that go --------------------------------------------------------------------------

void sending::handle(unbind_receiver& message, effects& out) {
    const auto& header = message.cancel.header;
    const auto rank = message.peer->info.rank;
    auto why = from_wire(message.cancel.reason);
    if (!why)
        why = make_error(errc::cancelled, "{} cancelled", describe(message.peer->info));
    const auto bound = attempt_of(rank);
    if (bound != header.attempt) {
        const auto unknown =
            make_error(errc::gone, "{} knows no attempt {}", text(), header.attempt);
        out.emplace_back(tell_peer{message.peer, gone{header, side::generation, to_wire(unknown)}});
        if (bound)
            out.emplace_back(count_ignored{ignored::foreign_attempt});
        else // it will not ask
            finish(outcome_of(why), why, out);
        return;
    }
    for (auto& [key, to] : receivers_)
        if (key.first == rank && to.is_lost())
            to.relink(message.peer, out);
    if (has_ended())
        out.emplace_back(count_ignored{ignored::late});
    finish(outcome_of(why), why, out);
}

void sending::handle(gone& message, effects& out) {
    auto why = from_wire(message.reason);
    if (!why)
        why = make_error(errc::gone, "the peer gave no reason");
    if (has_ended())
        out.emplace_back(count_ignored{ignored::late});
    for (auto& [key, to] : receivers_)
        if (to.peer().incarnation == message.header.sender && !to.is_complete()
            && to.request().header.attempt == message.header.attempt)
            fail(add_context(why, describe(to.peer())), out);
}

/// A receiver that was given nothing yet may ask again over a new link: the session then waits for
/// it as if it had not asked. One whose rank has given the link up does not come back.
void sending::handle(peer_lost& message, effects& out) {
    const auto may_ask_again = code_of(message.reason) == errc::link_lost;
    std::erase_if(receivers_, [this, &message, may_ask_again](const auto& entry) {
        const auto& [key, to] = entry;
        const auto waits = may_ask_again && to.peer().incarnation == message.peer && !to.is_lost()
                           && !has_ended() && !(to.is_complete() && asked_for_all(key.first))
                           && !has_begun(key.first);
        if (waits)
            left_[message.peer] = key.first;
        return waits;
    });
    if (auto left = left_.find(message.peer); left != left_.end() && !may_ask_again) {
        fail_without(left->second,
                     add_context(message.reason, "{} to rank {}", text(), left->second), out);
    } else if (left != left_.end()) {
        attempts_.erase(left->second);
        all_touched_ = true;
    }
    for (auto& [key, to] : receivers_) {
        if (to.peer().incarnation != message.peer || to.is_lost())
            continue;
        to.lose();
        if (to.is_complete()
            && (asked_for_all(key.first) || (may_ask_again && waits_for_siblings(key.first))))
            continue;
        const auto why = add_context(message.reason, "{} to {}", text(), describe(to.peer()));
        to.close(why, out);
        fail_without(key.first, why, out);
    }
    if (!gone_.empty())
        go_on(out);
}

/// Ranks that have not asked for all may have relied on that one to bring it: they are served
/// first.
void sending::fail_without(rank_id rank, const caf::error& why, effects& out) {
    gone_.emplace(rank, why);
    if (!relayed_ || all_bound())
        fail(why, out);
}

/// It has all that it has asked for, and siblings are to bring it the rest: it says so, or asks,
/// over a new link.
bool sending::waits_for_siblings(rank_id rank) const {
    return std::all_of(receivers_.begin(), receivers_.end(), [rank](const auto& entry) {
        const auto& [key, to] = entry;
        return key.first != rank || (to.is_complete() && !to.request().views.empty());
    });
}

/// A receiver's death frees nothing here: source pages wait for this rank's own operations. It only
/// ends the wait for one that might have asked again.
void sending::handle(process_gone& message, effects& out) {
    std::map<rank_id, caf::error> waited_for;
    for (const auto& [key, to] : receivers_)
        if (to.peer().incarnation == message.peer && !asked_for_all(key.first))
            waited_for[key.first] = make_error(
                errc::peer_gone, "{}: rank {} has not asked for all, and its process is gone",
                text(), key.first);
    if (auto left = left_.find(message.peer); left != left_.end())
        waited_for[left->second] =
            make_error(errc::peer_gone, "{}: rank {} had asked, and its process is gone", text(),
                       left->second);
    for (const auto& [rank, why] : waited_for)
        fail_without(rank, why, out);
    if (!waited_for.empty())
        go_on(out);
}

bool sending::has_begun(rank_id rank) const {
    return std::any_of(receivers_.begin(), receivers_.end(), [rank](const auto& entry) {
        return entry.first.first == rank && entry.second.has_begun();
    });
}

} // namespace kvferry
