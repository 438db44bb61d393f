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
    if (!relay.hands_on)
        return;
    handing_on_ = true;
    add(open_relay{relay.of, std::move(relay.views)});
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

/// Asks the context's ranks for the slices that are not here. What siblings were told of stays
/// exposed to them until there is proof, like any writer's. One that fails stands for all: what the
/// others bring is asked of the same context ranks.
void receiving::give_up_relay(receiving_writer& sibling, const caf::error& reason) {
    if (sibling.dismissed || has_ended())
        return;
    add(relay_given_up{explain(reason, sibling)});
    for (std::uint32_t piece = 0; piece < pieces_.size(); ++piece)
        if (siblings_brought(piece))
            brought_.insert(piece);
    for (auto& [place, from] : writers_)
        if (place.sibling)
            dismiss(from, reason);
    const auto* begun = std::get_if<transferring>(&phase_);
    const auto has_aux = begun && begun->aux;
    std::vector<receiving_writer*> spared;
    for (auto& [place, from] : writers_)
        if (std::exchange(from.held_back, false)) {
            spared.push_back(&from);
            if (has_aux)
                from.aux_reported = from.aux_came_otherwise = true;
        }
    for (auto* from : spared)
        if (from->lost_meanwhile)
            group_failed(*from, from->lost_meanwhile);
        else
            request_new(*from);
    succeed_if_complete();
}

/// All that they were to bring of it.
bool receiving::siblings_brought(std::uint32_t piece) const {
    return std::all_of(writers_.begin(), writers_.end(), [piece](const auto& entry) {
        const auto& from = entry.second;
        return !from.binding.sibling
               || (from.asked_for({piece}) && from.reports[piece].served()
                   && !from.failed_in.contains(piece));
    });
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
        if (place.sibling && !needs_nothing_of(from))
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

/// All of it is here that the context sends to this rank for itself and to hand on.
bool receiving::has_landed(std::uint32_t piece) const {
    return std::all_of(writers_.begin(), writers_.end(), [piece](const auto& entry) {
        const auto& [place, from] = entry;
        return place.sibling || place.rest || from.has_served({piece});
    });
}

/// Slices in their order; of the next one what is here already, so that siblings are one piece
/// behind, not one slice.
void receiving::hand_on_landed() {
    for (; handing_on_ && handed_on_ < pieces_.size() && has_landed(handed_on_); ++handed_on_) {
        auto& [slice, told, handed] = pieces_[handed_on_];
        if (!handed.empty()) {
            hand_on_extents(handed_on_);
            if (!slice.last)
                continue;
        }
        hand_on last{slice};
        for (const auto& each : handed) // nothing is left to send, but to say that it was all
            last.slice.tokens.begin = last.slice.tokens.end =
                std::max(last.slice.tokens.begin, std::min(each.tokens.end, slice.tokens.end));
        add(std::move(last));
    }
    if (handing_on_ && handed_on_ < pieces_.size())
        hand_on_extents(handed_on_);
}

/// Those that all writers have written; and none, where one has not said what its pieces are.
void receiving::hand_on_extents(std::uint32_t piece) {
    const auto lands = [](const auto& entry) {
        const auto& [place, from] = entry;
        return !place.sibling && !place.rest && !from.dismissed && from.binding.kv;
    };
    if (std::any_of(writers_.begin(), writers_.end(), [&](const auto& entry) {
            return lands(entry) && !entry.second.binding.tells_extents;
        }))
        return;
    for (const auto& entry : writers_) {
        const auto& from = entry.second;
        if (!lands(entry) || piece >= from.extents.size())
            continue;
        for (const auto& extent : from.extents[piece])
            if (std::all_of(writers_.begin(), writers_.end(), [&](const auto& other) {
                    return !lands(other) || other.second.has_written(piece, extent);
                }))
                hand_on_extent(piece, extent);
    }
}

void receiving::hand_on_extent(std::uint32_t number, const slice_extent& extent) {
    auto& [slice, told, handed] = pieces_[number];
    if (std::find(handed.begin(), handed.end(), extent) != handed.end())
        return;
    hand_on part{slice};
    part.slice.last = false;
    part.slice.layers = extent.layers;
    part.slice.tokens = {std::max(slice.tokens.begin, extent.tokens.begin),
                         std::min(slice.tokens.end, extent.tokens.end)};
    handed.push_back(extent);
    if (part.slice.tokens.begin < part.slice.tokens.end)
        add(std::move(part));
}

/// By rank; of two parts the one that is worse off.
std::map<rank_id, exposure> receiving::exposures() const {
    std::map<rank_id, exposure> result;
    for (const auto& [place, of_writer] : release_.writers())
        if (!place.sibling)
            if (auto [known, fresh] = result.emplace(place.rank, of_writer.state);
                !fresh && known->second != exposure::in_doubt && of_writer.state != exposure::quiet)
                known->second = of_writer.state;
    return result;
}

} // namespace kvferry
