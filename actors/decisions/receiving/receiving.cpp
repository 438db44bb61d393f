// SPDX-License-Identifier: Apache-2.0
// What a receiving attempt does when its host or a link speaks: whom it asks for what.
#include "actors/decisions/receiving/receiving.hpp"

#include "actors/shared/session_waits.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/plan.hpp"

#include <utility>

namespace kvferry {

receiving::effects receiving::on(event happened, time_point) {
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
    if (!has_ended())
        add(session_extended{facts_.request, facts_.attempt, more.by});
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
    for (auto& binding : bound.writers) {
        auto& from = writers_[binding.rank];
        from.summary.rank = binding.rank;
        from.binding = std::move(binding);
    }
    if (bound.relay)
        bind_relay(*bound.relay);
    succeed_if_complete();
}

void receiving::take(const writer_linked& link) {
    auto* from = writer_of(link.writer);
    if (!from || from->link_up())
        return;
    from->link = receiving_writer::linked{link.process_watched, link.digests};
    from->lost_meanwhile = {};
    request_again(*from);
    request_new(*from);
}

/// Over a new link to the same process: what was said over the former one may be lost. Asking the
/// same for the same attempt is idempotent: the writer reports once more what it has reported.
void receiving::request_again(receiving_writer& from) {
    if (has_ended() || from.dismissed) {
        const auto waited_for = release_.of(from.place()) == exposure::exposed;
        if (waited_for && !from.told_by_owner)
            cancel(from, has_ended() && end()->reason
                             ? end()->reason
                             : make_error(errc::not_selected, "it is not needed"));
        return;
    }
    for (std::uint32_t number = 0; number < from.reports.size(); ++number)
        if (!from.reports[number].complete() || from.reports[number].has_come_otherwise()
            || from.owes_aux())
            request(from, {number}, false);
}

/// Asks a writer for every slice that it has not been asked for yet. From here on it may write.
void receiving::request_new(receiving_writer& from) {
    if (has_ended() || !from.link_up() || from.dismissed || from.held_back)
        return;
    while (from.reports.size() < pieces_.size()) {
        const slice_index next{static_cast<std::uint32_t>(from.reports.size())};
        auto& fresh = from.reports.emplace_back();
        if (pieces_[next.value].told)
            fresh.came_otherwise();
        else
            ++from.incomplete;
        request(from, next, false);
    }
}

void receiving::request(receiving_writer& from, slice_index slice, bool renewal) {
    const auto rank = from.binding.rank;
    const auto relayed = from.binding.kv && from.reports[slice.value].has_come_otherwise();
    const auto kv = from.binding.kv && !relayed;
    const auto& link = *from.link_up();
    request_data message;
    message.header.request = facts_.request;
    message.header.attempt = facts_.attempt;
    message.header.receive_slice = slice;
    message.header.writer = rank;
    message.header.kind = kv ? payload_kind::kv : payload_kind::aux;
    message.target = pieces_[slice.value].slice;
    if (!kv)
        message.target.groups.clear();
    message.kv = kv;
    message.aux = from.binding.aux && slice.value == 0 && !from.aux_came_otherwise
                      ? aux_mode::required
                      : aux_mode::none;
    message.header.relay = from.binding.sibling;
    message.relayed = relayed;
    message.relay_of = from.binding.sibling ? relay_of_ : 0;
    message.receivers = from.binding.receivers;
    message.renewal = renewal;
    message.digest = message.digest_by_position = kv && link.digests && !from.binding.sibling;
    message.may_map = link.process_watched;
    message.tell_layers = kv && facts_.tell_layers;
    message.urgency = facts_.urgency;
    if (kv) {
        if (release_.writers().empty())
            add(allow_writes{facts_.attempt,
                             facts_.urgency}); // the fabric hears this before the link does
        release_.expose(from.place(), facts_.forbidding_is_proof && !link.process_watched);
    }
    add(ask_writer{from.binding.incarnation, std::move(message)});
}

void receiving::take(const request_never_left& lost) {
    auto* from = writer_of(lost.writer);
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
        for (std::uint32_t number = 0; number < from.reports.size(); ++number)
            if (from.reports[number].silent() || (number == 0 && aux_alone))
                request(from, {number}, true);
    }
}

/// Those that were asked know that the session is wanted: from there on their own host is to see to
/// their deadline.
void receiving::take(const keep_session&) {
    if (has_ended())
        return;
    for (const auto& [place, from] : writers_) {
        if (!from.link_up() || from.dismissed || from.asked() || from.binding.sibling)
            continue;
        session_wanted message;
        message.header.request = facts_.request;
        message.header.attempt = facts_.attempt;
        message.header.writer = from.binding.rank;
        add(keep_writer{from.binding.incarnation, std::move(message)});
    }
}

void receiving::take(const peer_lost& lost) {
    auto* from = writer_of(lost.peer);
    if (!from)
        return;
    if (code_of(lost.reason) != errc::link_lost)
        from->link = receiving_writer::left{};
    else if (!from->has_left())
        from->link = receiving_writer::unlinked{};
    if (from->held_back && !lost.dialled_again)
        from->lost_meanwhile = lost.reason;
    if (needs_nothing_of(*from) || (lost.dialled_again && !from->has_begun()))
        return; // nothing is needed of it, or it will be asked again
    group_failed(*from, lost.reason);
}

void receiving::take(const process_gone& over) {
    auto* from = writer_of(over.peer);
    if (!from)
        return;
    release_.gone_and_drained(from->place());
    from->link = receiving_writer::left{};
    if (from->held_back)
        from->lost_meanwhile = make_error(errc::peer_gone, "its process is gone");
    if (!needs_nothing_of(*from)) // it was to be asked again
        group_failed(*from, make_error(errc::peer_gone, "its process is gone"));
    release_if_quiet();
}

} // namespace kvferry
