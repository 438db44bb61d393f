// SPDX-License-Identifier: Apache-2.0
// What a receiving attempt does when a writer speaks: which DP group runs the request, and what
// has arrived.
#include "actors/decisions/receiving/receiving.hpp"
#include "actors/decisions/receiving/receiving_messages.hpp"
#include "actors/shared/aux_size.hpp"
#include "actors/shared/behind_all_pieces.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

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

// -- what writers say ---------------------------------------------------------------------------

void receiving::take(const transfer_started& started) {
    const auto [from, piece] = writer_of(started.header);
    if (!from || !from->asked_for({piece}))
        return ignore(ignored::unasked);
    if (has_ended()) // a report that travels with its bytes may overtake it
        return;
    from->started = true;
    begin(*from);
}

void receiving::take(const kv_agent_result& report) {
    const auto& header = report.header;
    const auto [from, piece] = writer_of(header);
    if (!from || !from->binding.kv || from->binding.rank != header.writer)
        return ignore(ignored::foreign_rank);
    if (!from->asked_for({piece}))
        return ignore(ignored::unasked);
    if (report.by_messages && header.piece == behind_all_pieces) {
        for (auto* each : writers_of(header.sender))
            if (each->asked())
                take_from_memory(*each, report);
        return;
    }
    if (is_checked(*from, report) && !from->dismissed && !has_ended() && facts_.read_first
        && facts_.read_first(pieces_[piece].slice, from->binding.views, report))
        return;
    auto& slice = from->reports[piece];
    const auto was_complete = slice.complete();
    if (const auto heard = slice.add(header.piece); heard != piece_ledger::verdict::fresh)
        return ignore(heard == piece_ledger::verdict::duplicate ? ignored::duplicate
                                                                : ignored::contradiction);
    if (!was_complete && slice.complete()) {
        --from->incomplete;
        touched_.push_back(piece);
    }
    begin(*from);
    from->summary.bytes += report.bytes;
    from->summary.fragments += report.fragments;
    from->summary.route = {report.way, report.route};
    if (report.result != agent_result::success) {
        from->failed = true;
        from->failed_in.insert(piece);
    }
    if (report.result == agent_result::in_doubt) {
        release_.reported_in_doubt(from->place(), report.by_messages);
        from->in_doubt.insert(piece);
    }
    settle(*from);
    if (!from->dismissed && !has_ended())
        if (auto failure = failure_of(*from, piece, report))
            fail_by(*from, failure);
    if (report.layers_end > 0) {
        from->wrote_layers({piece}, report.layers_end);
        tell_layers();
    }
    if (report.extent && report.result == agent_result::success)
        from->wrote(piece, *report.extent);
    succeed_if_complete();
    release_if_quiet();
}

/// The writer's session is over, and nothing of this attempt moves any more but messages.
void receiving::take_from_memory(receiving_writer& from, const kv_agent_result& report) {
    if (from.incomplete == 0)
        return ignore(ignored::duplicate);
    release_.reported_in_doubt(from.place(), true);
    from.failed = true;
    for (std::uint32_t number = 0; number < from.reports.size(); ++number) {
        auto& slice = from.reports[number];
        if (slice.complete())
            continue;
        from.in_doubt.insert(number);
        --from.incomplete;
        slice.refuse();
    }
    begin(from);
    settle(from);
    if (!from.dismissed && !has_ended())
        fail_by(from, reason_of(report.error));
    release_if_quiet();
}

bool receiving::is_checked(const receiving_writer& from, const kv_agent_result& report) {
    const auto* link = from.link_up();
    return report.result == agent_result::success && report.digest && link && link->digests;
}

caf::error receiving::failure_of(receiving_writer& from, std::uint32_t piece,
                                 const kv_agent_result& report) {
    if (report.result != agent_result::success)
        return reason_of(report.error);
    if (!is_checked(from, report))
        return {};
    ++from.summary.digests;
    return facts_.check_digest(pieces_[piece].slice, from.binding.views, report);
}

void receiving::take(const aux_agent_result& report) {
    const auto from = writer_of(report.header).first;
    if (!from || !from->binding.aux)
        return ignore(ignored::foreign_rank);
    if (std::exchange(from->aux_reported, true))
        return ignore(ignored::duplicate);
    if (has_ended())
        return ignore(ignored::late);
    begin(*from);
    if (from->dismissed)
        return;
    const auto failure = report.result == agent_result::success
                             ? check_aux_size(report.record, facts_.aux_bytes_max)
                             : reason_of(report.error);
    if (failure)
        return fail_by(*from, failure);
    std::get<transferring>(phase_).aux = report.record;
    if (handing_on_)
        add(hand_on_aux{report.record});
    succeed_if_complete();
}

void receiving::take(const cancel_session& cancel) {
    const auto of_it = writers_of(cancel.header.sender);
    if (of_it.empty())
        return ignore(ignored::foreign_rank);
    if (has_ended())
        return ignore(ignored::late);
    session_failed(*of_it.front(), reason_of(cancel.reason));
}

void receiving::take(const gone& answer) {
    refuse(answer.header, answer.reason);
}

void receiving::take(const refused& answer) {
    refuse(answer.header, answer.reason);
}

/// The writer does not serve what its answer is about: one slice when it answers a request_data,
/// the whole attempt when it answers a cancel_session, after which no request comes.
void receiving::refuse(const message_header& header, const wire_error& why) {
    const auto all = header.kind == payload_kind::none;
    const auto [about, piece] = writer_of(header);
    const auto meant =
        all || !about ? writers_of(header.sender) : recycled_vector<receiving_writer*>{about};
    if (meant.empty())
        return ignore(ignored::foreign_rank);
    if (is_about_the_request(why.code))
        session_failed(*meant.front(), reason_of(why));
    else
        for (auto* from : meant)
            from->unaware = true;
    receiving_writer* needed = nullptr;
    for (auto* from : meant) {
        if (!needs_nothing_of(*from))
            needed = from;
        refuse(*from, all ? std::nullopt : std::optional{piece});
    }
    if (needed)
        group_failed(*needed, reason_of(why));
    for (const auto* from : meant)
        settle(*from);
    release_if_quiet();
}

/// A renewal that crossed the last report is answered `gone`: what was served stays served.
void receiving::refuse(receiving_writer& from, std::optional<std::uint32_t> only) {
    for (std::uint32_t piece = 0; piece < from.reports.size(); ++piece) {
        auto& slice = from.reports[piece];
        if (slice.complete() || (only && *only != piece))
            continue;
        --from.incomplete;
        slice.refuse();
    }
}

recycled_vector<receiving_writer*> receiving::writers_of(incarnation peer) {
    recycled_vector<receiving_writer*> result;
    for (auto& [place, from] : writers_)
        if (from.binding.incarnation == peer)
            result.push_back(&from);
    return result;
}

std::pair<receiving_writer*, std::uint32_t> receiving::writer_of(const message_header& header) {
    for (auto& [place, from] : writers_)
        if (from.binding.incarnation == header.sender)
            if (const auto piece = from.piece_of(header.receive_slice))
                return {&from, *piece};
    return {nullptr, 0};
}

bool receiving::has_rest(rank_id rank) const {
    return writers_.contains({rank, false, true});
}

bool receiving::needs_nothing_of(const receiving_writer& from) const {
    if (from.dismissed || from.held_back)
        return true;
    if (from.owes_aux())
        return false;
    const auto reported = from.incomplete == 0 && from.reports.size() == pieces_.size();
    return (reported || !from.binding.kv) && host_gave_all();
}

/// A writer that has reported every slice completely and will not be asked again.
void receiving::settle(const receiving_writer& from) {
    if (from.incomplete == 0 && (has_ended() || host_gave_all()))
        release_.reported_all(from.place());
}

// -- which DP group -----------------------------------------------------------------------------

bool receiving::is_selected() const {
    const receiving_writer* first = nullptr;
    for (const auto& [place, from] : writers_) {
        if (from.dismissed)
            continue;
        if (first && first->binding.dp_rank != from.binding.dp_rank)
            return false;
        first = &from;
    }
    return true;
}

/// The first report says which group runs the request; the others are told to forget it. One that
/// crosses a dismissal says nothing.
void receiving::begin(const receiving_writer& from) {
    if (from.dismissed || !std::holds_alternative<waiting>(phase_))
        return;
    phase_ = transferring{};
    add(session_transferring{facts_.request, facts_.attempt, from.binding.dp_rank});
    dismiss_others(from);
}

void receiving::dismiss_others(const receiving_writer& from) {
    if (is_selected())
        return;
    const auto group = from.binding.dp_rank;
    const auto reason = make_error(errc::not_selected, "rid {} runs on DP rank {} of the context",
                                   facts_.request, group);
    for (auto& [place, other] : writers_)
        if (other.binding.dp_rank != group)
            dismiss(other, reason);
}

void receiving::dismiss(receiving_writer& from, const caf::error& reason) {
    all_touched_ = true;
    if (!std::exchange(from.dismissed, true))
        cancel(from, reason);
}

/// Another group may still run the request; if no other is left, the session ends.
void receiving::group_failed(receiving_writer& from, const caf::error& reason) {
    if (from.dismissed || has_ended())
        return;
    if (from.binding.sibling)
        return give_up_relay(from, reason);
    if (is_selected())
        return fail(explain(reason, from));
    for (auto& [place, other] : writers_)
        if (other.binding.dp_rank == from.binding.dp_rank)
            dismiss(other, reason);
}

/// A group that had a session for the request is the one that runs it: the others are dismissed.
void receiving::session_failed(receiving_writer& from, const caf::error& reason) {
    if (from.dismissed || has_ended())
        return;
    if (from.binding.sibling)
        return give_up_relay(from, reason);
    dismiss_others(from);
    group_failed(from, reason);
}

/// Tells a writer, if it was asked, that this attempt needs nothing from it any more. False: it
/// was not asked, or its link is lost.
bool receiving::cancel(const receiving_writer& from, const caf::error& reason) {
    if (!from.link_up() || !from.asked())
        return false;
    auto message = cancel_of(facts_.request, facts_.attempt, from.binding.rank, reason);
    message.header.relay = from.binding.sibling;
    add(cancel_writer{from.binding.incarnation, std::move(message)});
    return true;
}

} // namespace kvferry
