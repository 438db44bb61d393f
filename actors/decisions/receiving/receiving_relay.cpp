// SPDX-License-Identifier: Apache-2.0
// What a receiving attempt does with siblings: it takes from one, or hands on to the others.
#include "actors/decisions/receiving/receiving.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

void receiving::bind_relay(relay_binding& relay) {
    relay_of_ = relay.of;
    if (!relay.from) {
        handing_on_ = true;
        return add(open_relay{relay.of});
    }
    for (auto& [place, from] : writers_)
        from.held_back = true;
    auto& sibling = writers_[{relay.from->rank, true}];
    sibling.summary.rank = relay.from->rank;
    sibling.summary.sibling = true;
    sibling.binding = std::move(*relay.from);
}

bool receiving::is_relayed() const {
    return std::any_of(writers_.begin(), writers_.end(), [](const auto& entry) {
        return entry.second.binding.sibling && !entry.second.dismissed;
    });
}

/// A sibling's failure is none of the session: the context has the bytes still.
void receiving::fail_by(receiving_writer& from, const caf::error& reason) {
    if (from.binding.sibling)
        give_up_relay(from, reason);
    else
        fail(explain(reason, from));
}

/// Asks the context's ranks for the slices that are not here. What the sibling was told of stays
/// exposed to it until there is proof, like any writer's.
void receiving::give_up_relay(receiving_writer& sibling, const caf::error& reason) {
    if (sibling.dismissed || has_ended())
        return;
    add(relay_given_up{explain(reason, sibling)});
    dismiss(sibling, reason);
    const auto* begun = std::get_if<transferring>(&phase_);
    const auto has_aux = begun && begun->aux;
    for (auto& [place, from] : writers_) {
        from.held_back = false;
        if (!place.sibling && has_aux)
            from.aux_reported = from.aux_came_otherwise = true;
    }
    for (auto& [place, from] : writers_)
        if (from.lost_meanwhile)
            group_failed(from, from.lost_meanwhile);
        else
            request_new(from);
    succeed_if_complete();
}

/// It has had half of the time; or it was itself to hand on, and siblings have not asked for long.
void receiving::take(const relay_overdue&) {
    if (has_ended()) {
        if (handing_on_)
            add(end_relay{make_error(errc::deadline_exceeded,
                                     "rid {}: {} has waited long enough for siblings",
                                     facts_.request, facts_.self),
                          true});
        return;
    }
    for (auto& [place, from] : writers_)
        if (place.sibling)
            return give_up_relay(
                from, make_error(errc::deadline_exceeded, "it has had half of the time"));
}

void receiving::end_handing_on(const caf::error& reason) {
    if (handing_on_ && !std::exchange(relay_ended_, true))
        add(end_relay{reason});
}

void receiving::take(const relay_over&) {
    handing_on_ = false;
    release_if_quiet();
}

void receiving::hand_on_next() {
    for (; handing_on_ && handed_on_ < pieces_.size() && pieces_[handed_on_].told; ++handed_on_)
        add(hand_on{pieces_[handed_on_].slice});
}

std::map<rank_id, exposure> receiving::exposures() const {
    std::map<rank_id, exposure> result;
    for (const auto& [place, state] : release_.writers())
        if (!place.sibling)
            result.emplace(place.rank, state);
    return result;
}

} // namespace kvferry
