// SPDX-License-Identifier: Apache-2.0
// How a receiving attempt ends, and when its pages are free. The two are decided separately.
#include "actors/decisions/receiving/receiving.hpp"
#include "actors/shared/slot_lists.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

namespace kvferry {

namespace {

std::string text_of_writer(writer_place x) {
    return x.sibling ? "sibling rank " + to_string(x.rank) + ", which hands on what it receives"
                     : "context rank " + to_string(x.rank);
}

} // namespace

// -- outcome and release ------------------------------------------------------------------------

const receiving::ended* receiving::end() const {
    if (const auto* over = std::get_if<released>(&phase_))
        return &over->how;
    return std::get_if<ended>(&phase_);
}

void receiving::tell_piece(std::uint32_t number, const caf::error& why) {
    if (std::exchange(pieces_[number].told, true))
        return;
    ++pieces_told_;
    add(piece_finished{.role = side::generation,
                       .request = facts_.request,
                       .attempt = facts_.attempt,
                       .kind = payload_kind::kv,
                       .index = {number},
                       .error = why});
}

void receiving::tell_served(std::uint32_t number) {
    if (std::all_of(writers_.begin(), writers_.end(),
                    [number](const auto& entry) { return entry.second.has_served({number}); }))
        tell_piece(number, {});
}

/// Every writer of the chosen group has its say: a layer is here when all its heads are.
void receiving::tell_layers() {
    if (!facts_.tell_layers || has_ended() || !is_selected() || !host_gave_all())
        return;
    auto end = std::numeric_limits<std::uint32_t>::max();
    for (const auto& [place, from] : writers_)
        if (!from.dismissed && !from.held_back && from.binding.kv)
            end = std::min(end, from.layers_end(pieces_.size()));
    if (end <= layers_told_)
        return;
    layers_told_ = end;
    add(layers_arrived{facts_.request, facts_.attempt, end});
}

void receiving::succeed_if_complete() {
    if (has_ended() || is_unbound() || !is_selected())
        return;
    if (std::exchange(all_touched_, false)) {
        for (std::uint32_t number = 0; number < pieces_.size(); ++number)
            tell_served(number);
    } else {
        for (auto number : touched_)
            tell_served(number);
    }
    touched_.clear();
    hand_on_landed();
    if (!has_all_kv())
        return;
    const auto* begun = std::get_if<transferring>(&phase_);
    if (facts_.aux == aux_mode::none)
        finish(session_state::kv_transferred, {});
    else if (begun && begun->aux)
        finish(session_state::fully_transferred, {});
}

void receiving::fail(const caf::error& reason) {
    finish(outcome_of(reason), reason);
}

void receiving::finish(session_state outcome, const caf::error& reason) {
    if (has_ended())
        return;
    session_finished result;
    result.role = side::generation;
    result.request = facts_.request;
    result.attempt = facts_.attempt;
    result.state = outcome;
    result.error = reason;
    result.layers_skipped = layers_skipped_;
    result.roles_skipped = roles_skipped_;
    if (auto* begun = std::get_if<transferring>(&phase_); begun && begun->aux && !reason)
        result.aux = std::move(*begun->aux);
    phase_ = ended{outcome, reason};
    for (std::uint32_t number = 0; number < pieces_.size(); ++number)
        tell_piece(number, reason);
    session_ended told{facts_.request, facts_.attempt, reason};
    for (auto& [place, from] : writers_) {
        if (!place.rest || from.asked())
            result.peers.push_back(from.summary);
        settle(from);
        if (!reason && from.held_back && !from.has_left()) {
            told.relayed.push_back(from.binding.rank);
            told.relayed_as = from.number_of(0);
        }
    }
    if (reason) {
        tell_of_end(reason, told);
        end_handing_on(reason);
    }
    add(std::move(result));
    add(std::move(told));
    // From here on this rank lets nothing of the attempt in. Of writers that can only send messages
    // that is proof, however late they are and whatever became of them.
    if (!release_.writers().empty())
        add(forbid_writes{facts_.attempt});
    release_if_quiet();
}

/// Each process that has to hear of the failure does so once: from here, or from the receiver.
void receiving::tell_of_end(const caf::error& reason, session_ended& told) {
    for (auto first = writers_.begin(); first != writers_.end();) {
        auto end = first;
        auto must = false;
        auto heard = false;
        auto later = first->second.binding.sibling; // it is told nothing that it needs to know
        for (; end != writers_.end()
               && end->second.binding.incarnation == first->second.binding.incarnation;
             ++end) {
            must = must || must_be_told(end->second);
            later = later || release_.only_it_can_free(end->first); // request_again() tells it
        }
        for (auto each = first; must && !heard && each != end; ++each)
            heard = cancel(each->second, reason);
        if (must && !heard && !later)
            told.untold.push_back(first->second.binding.rank);
        for (; first != end; ++first)
            first->second.told_by_owner = must && !heard && !later;
    }
}

/// A failure is told also to a writer that has done its part: it may wait for siblings of this
/// rank, and they fail too.
bool receiving::must_be_told(const receiving_writer& from) const {
    const auto alone = from.binding.receivers.size() <= 1;
    const auto done = needs_nothing_of(from) && !from.unaware && (from.failed || alone);
    return !from.dismissed && !from.has_left() && (from.held_back || !done);
}

void receiving::take(const writes_forbidden&) {
    if (facts_.forbidding_is_proof)
        release_.forbidden();
    release_if_quiet();
}

void receiving::release_if_quiet() {
    auto* over = std::get_if<ended>(&phase_);
    if (!over || handing_on_ || !release_.released())
        return;
    add(session_released{side::generation, facts_.request, facts_.attempt});
    add(session_retired{facts_.request, facts_.attempt, over->reason});
    phase_ = released{std::move(*over)};
}

caf::error receiving::explain(const caf::error& reason, const receiving_writer& from) const {
    const auto* who = from.binding.sibling ? "sibling" : "context";
    return add_context(reason, "rid " + to_string(facts_.request) + " from " + who + " rank "
                                   + to_string(from.binding.rank));
}

slots_on_loan receiving::on_loan() const {
    std::vector<std::set<std::int32_t>> slots;
    if (is_released())
        return {};
    const auto may_be_written = [this](std::uint32_t number) {
        return std::any_of(writers_.begin(), writers_.end(), [&](const auto& entry) {
            const auto& [place, from] = entry;
            const auto state = release_.of(place);
            return (state == exposure::exposed || state == exposure::in_doubt)
                   && from.asked_for({number})
                   && (!from.reports[number].complete() || from.in_doubt.contains(number));
        });
    };
    for (std::uint32_t number = 0; number < pieces_.size(); ++number)
        if (!has_ended() || may_be_written(number))
            add_slots(pieces_[number].slice, slots);
    return listed(slots);
}

// -- for people ---------------------------------------------------------------------------------

session_state receiving::state() const {
    if (const auto* over = end())
        return over->outcome;
    if (is_unbound())
        return session_state::init;
    if (has_all_kv())
        return session_state::kv_transferred;
    const auto asked = std::any_of(writers_.begin(), writers_.end(),
                                   [](const auto& entry) { return entry.second.asked(); });
    return asked ? session_state::transferring : session_state::init;
}

std::vector<session_wait> receiving::waits() const {
    std::vector<session_wait> result;
    const auto wait_for = [&result](std::string what, const char* who, const receiving_writer& at) {
        result.push_back(
            {std::move(what), who, at.binding.instance + "/" + to_string(at.binding.rank)});
    };
    if (has_ended()) {
        for (const auto& [place, known] : release_.writers())
            if (known.state == exposure::exposed || known.state == exposure::in_doubt)
                wait_for("proof that " + text_of_writer(place) + " writes no more ("
                             + to_string(known.state) + ")",
                         "tx_session", writers_.at(place));
        if (handing_on_)
            result.push_back({"siblings that it hands on to", "tx_session"});
        return result;
    }
    if (is_unbound())
        return {{"the context instance's rank infos", "rank_info_server",
                 std::string{facts_.context_endpoint}}};
    if (!host_gave_all())
        return {{"the host's last receive(slice)", "host"}};
    for (const auto& [place, from] : writers_) {
        if (from.dismissed || from.held_back)
            continue;
        if (!from.link_up())
            wait_for("a link to " + text_of_writer(place), "peer_link", from);
        else if (!needs_nothing_of(from))
            wait_for("reports of " + text_of_writer(place), "tx_session", from);
    }
    return result;
}

} // namespace kvferry
