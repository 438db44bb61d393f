// SPDX-License-Identifier: Apache-2.0
// What a sending session tells its host, and when it ends; sending_peers.cpp has its receivers.
#include "actors/decisions/sending/sending.hpp"

#include "actors/decisions/receiver_wants.hpp"
#include "actors/shared/aux_size.hpp"
#include "actors/shared/session_waits.hpp"
#include "actors/shared/slot_lists.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

using namespace sending_effects;

namespace {

template <class Map, class Predicate>
bool all_values(const Map& map, Predicate predicate) {
    return std::all_of(map.begin(), map.end(),
                       [&](const auto& entry) { return predicate(entry.second); });
}

} // namespace

sending::sending(terms with) : with_(std::move(with)), phase_(serving{}) {}

sending::effects sending::on(event&& what, time_point) {
    effects out;
    out.reserve(8); // they are large; no answer to a piece's end is longer
    std::visit([&](auto& each) { handle(each, out); }, what);
    return out;
}

// -- the host -----------------------------------------------------------------------------------

void sending::handle(send_slice& message, effects& out) {
    const auto index = static_cast<std::uint32_t>(pieces_.size());
    pieces_.push_back({make_recycled<const send_slice>(std::move(message)), {}, false});
    touched_.push_back(index);
    const auto about = [&] { return text() + ": send slice " + std::to_string(index); };
    if (index > 0 && pieces_[index - 1].last())
        fail(make_error(errc::invalid_argument, "{} comes after the last one", about()), out);
    if (auto problem = check_tokens(pieces_.back().source->slice))
        fail(add_context(problem, about()), out);
    if (!has_ended())
        return go_on(out);
    const auto why = why_ended();
    tell_piece(index, why ? why : make_error(errc::gone, "the session has ended"), out);
}

void sending::handle(send_aux& message, effects& out) {
    auto failure = why_ended();
    if (!failure && with_.aux == aux_mode::none)
        failure = make_error(errc::invalid_argument, "{} was opened without aux", text());
    if (!failure && aux_)
        failure = make_error(errc::duplicate, "{} has its aux already", text());
    if (!failure)
        failure = check_aux_size(message.record, with_.aux_bytes_max);
    if (failure || has_ended()) {
        out.emplace_back(tell_host{piece_finished{.role = side::context,
                                                  .request = with_.request,
                                                  .kind = payload_kind::aux,
                                                  .error = failure}});
        return;
    }
    aux_ = given_aux{std::move(message.record)};
    go_on(out);
}

void sending::handle(cancel_request& message, effects& out) {
    if (message.unless_asked && all_bound())
        return;
    const auto why =
        message.reason ? message.reason : make_error(errc::cancelled, "the host cancelled");
    finish(outcome_of(why), why, out);
}

void sending::handle(extend_session& more, effects& out) {
    if (!has_ended())
        out.emplace_back(tell_owner{session_extended{with_.request, {}, more.by}});
}

void sending::handle(deadline_tick&, effects& out) {
    if (is_released()) // the owner routes nothing here any more
        out.emplace_back(quit{});
    else if (!has_ended())
        fail(make_error(errc::deadline_exceeded, "{} on {} waited for {}", text(),
                        describe(*with_.self), text_of(waits())),
             out);
}

/// Reports still reach the peers: links are called directly.
void sending::handle(owner_ended&, effects& out) {
    if (is_released()) {
        out.emplace_back(quit{});
        return;
    }
    if (!has_ended())
        fail(make_error(errc::handler_failed, "{}: the sender of {} died", text(),
                        describe(*with_.self)),
             out);
    if (auto* waiting = std::get_if<ended>(&phase_))
        waiting->orphaned = true;
    else
        out.emplace_back(quit{});
}

void sending::handle(sending_events::failed& x, effects& out) {
    fail(x.why, out);
    for (auto& [key, to] : receivers_) // the code may have stopped before its report
        to.report_closing(out);
    release_if_quiet(out);
}

void sending::tell_piece(std::uint32_t index, const caf::error& why, effects& out) {
    if (!std::exchange(pieces_[index].told_host, true))
        out.emplace_back(tell_host{piece_finished{.role = side::context,
                                                  .request = with_.request,
                                                  .kind = payload_kind::kv,
                                                  .index = {index},
                                                  .error = why}});
}

void sending::tell_aux(const caf::error& why, effects& out) {
    if (aux_ && !std::exchange(aux_->told_host, true))
        out.emplace_back(tell_host{piece_finished{.role = side::context,
                                                  .request = with_.request,
                                                  .kind = payload_kind::aux,
                                                  .error = why}});
}

// -- outcome and release ------------------------------------------------------------------------

session_state sending::state() const {
    struct states {
        session_state operator()(const serving& x) const { return x.reached; }
        session_state operator()(const ended& x) const { return x.outcome; }
        session_state operator()(const released& x) const { return x.outcome; }
    };
    return std::visit(states{}, phase_);
}

caf::error sending::why_ended() const {
    if (const auto* x = std::get_if<ended>(&phase_))
        return x->why;
    const auto* x = std::get_if<released>(&phase_);
    return x ? x->why : caf::error{};
}

bool sending::all_bound() const {
    return !expected_.empty()
           && std::all_of(expected_.begin(), expected_.end(),
                          [this](rank_id rank) { return asked_for_all(rank); });
}

/// The receiver rank has sent the last of its requests.
bool sending::asked_for_all(rank_id rank) const {
    return gone_.contains(rank)
           || std::any_of(receivers_.begin(), receivers_.end(), [rank](const auto& entry) {
                  return entry.first.first == rank && entry.second.request().target.last;
              });
}

bool sending::kv_complete() const {
    return host_gave_all() && all_bound()
           && all_values(receivers_, [](const auto& to) { return to.has_kv(); });
}

bool sending::aux_complete() const {
    if (with_.aux == aux_mode::required && !aux_)
        return false; // even if no receiver wants it: the host's piece must end
    return all_values(receivers_, [](const auto& to) { return to.has_aux() || to.is_closed(); });
}

bool sending::is_served(const piece& x) const {
    return std::all_of(receivers_.begin(), receivers_.end(), [&x](const auto& entry) {
        return !entry.second.request().kv || x.served.contains(entry.first);
    });
}

void sending::tell_served(std::uint32_t index, effects& out) {
    if (!pieces_[index].told_host && is_served(pieces_[index]))
        tell_piece(index, {}, out);
}

/// Moves the state forward and tells the host which of its pieces have ended.
void sending::update(effects& out) {
    auto* now = std::get_if<serving>(&phase_);
    if (!now)
        return;
    const auto bound = all_bound();
    if (bound && !std::exchange(now->ready_told, true) && with_.tell_ready)
        out.emplace_back(tell_host{session_ready{with_.request, wants()}});
    for (std::uint32_t index = 0; bound && all_touched_ && index < pieces_.size(); ++index)
        tell_served(index, out);
    for (auto index : touched_)
        if (bound && !all_touched_)
            tell_served(index, out);
    touched_.clear();
    all_touched_ = !bound;
    if (bound && aux_complete())
        tell_aux({}, out);
    auto reached = session_state::init;
    if (kv_complete())
        reached = session_state::kv_transferred;
    else if (!all_values(receivers_, [](const auto& to) { return to.dispatched() == 0; }))
        reached = session_state::transferring;
    else if (bound)
        reached = session_state::ready;
    now->reached = std::max(now->reached, reached);
    if (now->reached < session_state::kv_transferred || !aux_complete())
        return;
    if (!gone_.empty())
        fail(std::map{gone_}.begin()->second, out);
    else
        finish(with_.aux == aux_mode::none ? session_state::kv_transferred
                                           : session_state::fully_transferred,
               {}, out);
}

void sending::finish(session_state outcome, const caf::error& why, effects& out) {
    if (has_ended())
        return;
    phase_ = ended{outcome, why};
    for (std::uint32_t index = 0; index < pieces_.size(); ++index)
        tell_piece(index, why, out);
    tell_aux(why, out);
    session_finished result{
        .role = side::context, .request = with_.request, .state = outcome, .error = why};
    for (auto& [key, to] : receivers_) {
        // Also tell receivers that have everything from this rank: they may wait for siblings of
        // it, one of which has failed.
        if (why && !to.is_closed() && to.is_complete())
            to.tell_cancelled(why, out);
        if (why)
            to.close(why, out);
        result.peers.push_back(to.summary());
    }
    out.emplace_back(tell_host{std::move(result)});
    out.emplace_back(tell_owner{session_ended{with_.request, {}, why}});
    release_if_quiet(out);
}

/// Gives the source pages back to the host once no operation of this rank can read them. The
/// session lives until its owner knows, so that requests on their way here still get an answer.
void sending::release_if_quiet(effects& out) {
    auto* waiting = std::get_if<ended>(&phase_);
    if (!waiting || !all_values(receivers_, [](const auto& to) { return !to.is_moving(); }))
        return;
    auto last = std::move(*waiting);
    out.emplace_back(tell_host{session_released{side::context, with_.request, {}}});
    out.emplace_back(tell_owner{session_retired{with_.request, {}, last.why, doubt_}});
    if (last.orphaned)
        out.emplace_back(quit{});
    phase_ = released{last.outcome, std::move(last.why)};
}

slots_on_loan sending::on_loan() const {
    std::vector<std::set<std::int32_t>> slots;
    if (!is_released())
        for (std::uint32_t index = 0; index < pieces_.size(); ++index)
            if (!has_ended() || !all_values(receivers_, [index](const auto& to) {
                    return !to.is_under_way({index});
                }))
                add_slots(pieces_[index].source->slice, slots);
    return listed(slots);
}

std::vector<receiver_wants> sending::wants() const {
    std::vector<receiver_wants> result;
    for (const auto& [key, to] : receivers_) {
        if (!to.request().kv)
            continue;
        if (result.empty() || result.back().rank != key.first)
            result.push_back({key.first, to.request().target.prompt_tokens,
                              to.request().target.prompt_tokens, 0});
        auto& whole = result.back();
        const auto part = wants_of(to.peer(), to.request().target);
        whole.prefix_tokens = std::min(whole.prefix_tokens, part.prefix_tokens);
        whole.blocks += part.blocks;
    }
    return result;
}

// -- for people ---------------------------------------------------------------------------------

session_status sending::status() const {
    session_status result;
    result.role = side::context;
    result.request = with_.request;
    result.state = state();
    result.waits = waits();
    result.waits_for = text_of(result.waits);
    for (const auto& [key, to] : receivers_)
        result.peers[key.first] = to.is_moving() ? exposure::exposed : exposure::quiet;
    return result;
}

std::vector<session_wait> sending::waits() const {
    std::vector<session_wait> result;
    for (const auto& [key, to] : receivers_)
        if (to.is_moving())
            result.push_back(
                {std::to_string(to.moving()) + " transfers to rank " + to_string(key.first),
                 std::string{to.executor()}});
    if (has_ended())
        return result;
    if (!host_gave_all())
        return {{"the host's last send(slice)", "host"}};
    if (expected_.empty())
        return {{"a receiver's request_data", "rx_session"}};
    const auto instance = receivers_.empty() ? "" : receivers_.begin()->second.peer().instance;
    for (auto rank : expected_)
        if (!attempts_.contains(rank))
            result.push_back({"request_data of rank " + to_string(rank), "rx_session",
                              instance + "/" + to_string(rank)});
    if (result.empty() && with_.aux == aux_mode::required && !aux_)
        return {{"the host's send_aux()", "host"}};
    return result;
}

} // namespace kvferry
