// SPDX-License-Identifier: Apache-2.0
// What a receiving attempt does when its host or a link speaks: whom it asks for what.
#include "actors/decisions/receiving/receiving.hpp"

#include "actors/shared/session_waits.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

receiving::effects receiving::on(event&& happened, time_point) {
    if (!is_released())
        std::visit([this](auto& x) { take(x); }, happened);
    return std::exchange(effects_, {});
}

// -- the host -----------------------------------------------------------------------------------

void receiving::take(receive_slice& given) {
    const slice_index index{static_cast<std::uint32_t>(pieces_.size())};
    const auto late = host_gave_all();
    pieces_.push_back({std::move(given.slice)});
    const auto& slice = pieces_.back().slice;
    if (has_ended()) {
        const auto& why = end()->reason;
        tell_piece(index.value, why ? why : make_error(errc::gone, "the session has ended"));
        return;
    }
    if (late)
        return fail(make_error(errc::invalid_argument,
                               "rid {}: receive slice {} comes after the last one", facts_.request,
                               index));
    if (auto problem = check_tokens(slice))
        return fail(add_context(problem, "rid {}: receive slice {}", facts_.request, index));
    if (!slice.layers.is_all())
        return fail(
            make_error(errc::invalid_argument,
                       "rid {}: receive slice {} names layers, a receiver takes all of its own",
                       facts_.request, index));
    touched_.push_back(index.value);
    for (auto& [place, from] : writers_)
        request_new(from);
    succeed_if_complete();
}

void receiving::take(const extend_session& more) {
    if (has_ended())
        return;
    add(session_extended{facts_.request, facts_.attempt, more.by});
    if (handing_on_)
        add(extend_relay{more.by});
}

void receiving::take(const cancel_request& cancel) {
    const auto why =
        cancel.reason ? cancel.reason : make_error(errc::cancelled, "the host cancelled");
    if (has_ended()) // it wants its pages back
        return end_handing_on(why);
    fail(why);
}

void receiving::take(const deadline_tick&) {
    if (!has_ended())
        fail(make_error(errc::deadline_exceeded, "rid {} on {} waited for {}", facts_.request,
                        facts_.self, text_of(waits())));
}

/// Without the receiver no report and no proof arrives here any more: exposed pages stay on loan.
void receiving::take(const owner_ended&) {
    fail(make_error(errc::handler_failed, "rid {}: the receiver of {} died", facts_.request,
                    facts_.self));
}

void receiving::take(const carrier_failed& failed) {
    fail(failed.reason);
}

// -- writers and their links --------------------------------------------------------------------

void receiving::take(bind_writers& bound) {
    if (bound.error)
        return fail(bound.error);
    if (!is_unbound())
        return;
    phase_ = waiting{};
    layers_skipped_ = std::move(bound.layers_skipped);
    roles_skipped_ = std::move(bound.roles_skipped);
    const auto add_writer = [this](writer_binding& binding) {
        const writer_place place{binding.rank, binding.sibling,
                                 binding.in_parts && binding.held_back};
        auto [entry, is_new] = writers_.try_emplace(place);
        auto& fresh = entry->second;
        if (!is_new)
            fresh = {};
        fresh.summary.rank = binding.rank;
        fresh.summary.sibling = binding.sibling;
        fresh.held_back = binding.held_back;
        fresh.binding = std::move(binding);
    };
    std::for_each(bound.writers.begin(), bound.writers.end(), add_writer);
    if (bound.relay)
        std::for_each(bound.relay->from.begin(), bound.relay->from.end(), add_writer);
    if (bound.relay)
        bind_relay(*bound.relay);
    succeed_if_complete();
}

void receiving::take(const writer_linked& link) {
    auto told = false;
    for (auto* from : writers_of(link.writer)) {
        if (from->link_up())
            continue;
        from->link = receiving_writer::linked{link.process_watched, link.digests};
        from->lost_meanwhile = {};
        if (!told)
            told = request_again(*from);
        request_new(*from);
    }
}

/// Over a new link to the same process: what was said over the former one may be lost. Asking the
/// same for the same attempt is idempotent: the writer reports once more what it has reported.
/// True: it is told that nothing more is wanted of it.
bool receiving::request_again(receiving_writer& from) {
    if (has_ended() || from.dismissed) {
        const auto waited_for = release_.of(from.place()) == exposure::exposed;
        return waited_for && !from.told_by_owner
               && cancel(from, has_ended() && end()->reason
                                   ? end()->reason
                                   : make_error(errc::not_selected, "it is not needed"));
    }
    for (std::uint32_t piece = 0; piece < from.reports.size(); ++piece)
        if (!from.reports[piece].complete() || from.reports[piece].has_come_otherwise()
            || from.owes_aux())
            request(from, piece, false);
    return false;
}

/// Asks a writer for every slice that it has not been asked for yet. From here on it may write.
void receiving::request_new(receiving_writer& from) {
    if (has_ended() || !from.link_up() || from.dismissed || from.held_back)
        return;
    while (from.reports.size() < pieces_.size()) {
        const auto piece = static_cast<std::uint32_t>(from.reports.size());
        auto& fresh = from.reports.emplace_back();
        if (pieces_[piece].told || (from.binding.held_back && brought_.contains(piece)))
            fresh.came_otherwise();
        else
            ++from.incomplete;
        request(from, piece, false);
    }
}

void receiving::request(receiving_writer& from, std::uint32_t piece, bool renewal) {
    const auto rank = from.binding.rank;
    // Of two parts, one may consist of the record alone.
    const auto relayed =
        from.binding.kv ? from.reports[piece].has_come_otherwise() : from.binding.in_parts;
    const auto kv = from.binding.kv && !relayed;
    const auto& link = *from.link_up();
    request_data message;
    message.header.request = facts_.request;
    message.header.attempt = facts_.attempt;
    message.header.receive_slice = from.number_of(piece);
    message.header.writer = rank;
    message.header.kind = kv ? payload_kind::kv : payload_kind::aux;
    message.target = pieces_[piece].slice;
    message.target.last =
        message.target.last && (!from.binding.in_parts || from.is_rest() || !has_rest(rank));
    if (!kv)
        message.target.groups.clear();
    message.kv = kv;
    message.aux = from.binding.aux && piece == 0 && !from.aux_came_otherwise ? aux_mode::required
                                                                             : aux_mode::none;
    message.header.relay = from.binding.sibling;
    message.relayed = relayed;
    message.relay_of = from.binding.sibling ? relay_of_ : 0;
    message.receivers = from.binding.receivers;
    message.renewal = renewal;
    message.digest = message.digest_by_position = kv && link.digests && !from.binding.sibling;
    message.may_map = link.process_watched;
    message.tell_layers = kv && facts_.tell_layers;
    message.tell_extents = kv && handing_on_ && from.binding.tells_extents;
    message.urgency = facts_.urgency;
    if (kv) {
        message.views = from.binding.views;
        if (release_.writers().empty())
            add(allow_writes{facts_.attempt,
                             facts_.urgency}); // the fabric hears this before the link does
        release_.expose(from.place(), facts_.forbidding_is_proof && !link.process_watched);
    }
    add(ask_writer{from.binding.incarnation, std::move(message)});
}

void receiving::take(const request_never_left& lost) {
    message_header about;
    about.sender = lost.writer;
    about.receive_slice = lost.number;
    const auto [from, piece] = writer_of(about);
    if (from && from->binding.kv)
        release_.never_left(from->place());
    release_if_quiet();
}

/// A writer whose host has not opened the session yet forgets requests that are not renewed.
void receiving::take(const renew_requests&) {
    if (has_ended())
        return;
    for (auto& [place, from] : writers_) {
        if (!from.link_up() || from.dismissed || (!from.binding.kv && from.aux_reported))
            continue;
        const auto aux_alone =
            from.owes_aux() && !from.reports.empty() && from.reports.front().has_come_otherwise();
        for (std::uint32_t piece = 0; piece < from.reports.size(); ++piece)
            if (from.reports[piece].silent() || (piece == 0 && aux_alone))
                request(from, piece, true);
    }
}

/// Those that were asked for all know that the session is wanted: from there on their own host is
/// to see to their deadline.
void receiving::take(const keep_session&) {
    if (has_ended())
        return;
    std::optional<incarnation> told;
    for (const auto& [place, from] : writers_) {
        const auto process = from.binding.incarnation;
        if (!from.link_up() || from.dismissed || from.asked() || place.sibling || told == process)
            continue;
        told = process;
        session_wanted message;
        message.header.request = facts_.request;
        message.header.attempt = facts_.attempt;
        message.header.writer = from.binding.rank;
        add(keep_writer{process, std::move(message)});
    }
}

void receiving::take(const peer_lost& lost) {
    receiving_writer* needed = nullptr;
    auto has_begun = false;
    for (auto* from : writers_of(lost.peer)) {
        if (code_of(lost.reason) != errc::link_lost)
            from->link = receiving_writer::left{};
        else if (!from->has_left())
            from->link = receiving_writer::unlinked{};
        if (from->held_back && !lost.dialled_again)
            from->lost_meanwhile = lost.reason;
        has_begun = has_begun || from->has_begun();
        if (!needs_nothing_of(*from))
            needed = from;
    }
    if (needed && (!lost.dialled_again || has_begun)) // else it will be asked again
        group_failed(*needed, lost.reason);
}

void receiving::take(const process_gone& over) {
    receiving_writer* needed = nullptr;
    for (auto* from : writers_of(over.peer)) {
        release_.gone_and_drained(from->place());
        from->link = receiving_writer::left{};
        if (from->held_back)
            from->lost_meanwhile = make_error(errc::peer_gone, "its process is gone");
        if (!needs_nothing_of(*from)) // it was to be asked again
            needed = from;
    }
    if (needed)
        group_failed(*needed, make_error(errc::peer_gone, "its process is gone"));
    release_if_quiet();
}

} // namespace kvferry
