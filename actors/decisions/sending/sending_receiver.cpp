// SPDX-License-Identifier: Apache-2.0
// Pieces and reports of one receiver.
#include "actors/decisions/sending/sending_receiver.hpp"

#include <utility>

namespace kvferry {

using namespace sending_effects;

namespace {

/// So many bytes bring their report at once: that the transfer has begun is no news ahead of it,
/// but a message and a wake-up.
constexpr std::uint64_t told_by_report_bytes_max = std::uint64_t{128} << 10;

bool is_told_by_report(const sending_events::piece_planned& plan) {
    return plan.reports_along && plan.reports_along->bytes <= told_by_report_bytes_max;
}

} // namespace

sending_receiver::sending_receiver(rank_id writer, sending_events::asked&& x)
    : writer_(writer), request_(make_recycled<const request_data>(std::move(x.ask.request))),
      peer_(std::move(x.ask.peer)), wait_(std::move(x.wait)), layout_(std::move(x.layout)) {
    summary_.rank = peer_->info.rank;
}

bool sending_receiver::is_planning(slice_index index) const {
    return unreported_.contains(index.value) && !moving_.contains(index.value);
}

bool sending_receiver::is_under_way(slice_index index) const {
    return moving_.contains(index.value);
}

// -- pieces -------------------------------------------------------------------------------------

void sending_receiver::plan(send_piece piece, std::shared_ptr<const send_slice> source,
                            effects& out) {
    dispatched_ = piece.index.value + 1;
    unreported_.emplace(piece.index.value, piece.last);
    if (request_->tell_extents) // in their order, without a gap
        extents_.push_back({source->slice.tokens, source->slice.layers});
    out.emplace_back(plan_piece{key(), piece.index, request_, std::move(source), peer_, layout_});
}

void sending_receiver::launch(const sending_events::piece_planned& plan, effects& out) {
    summary_.route = plan.route;
    summary_.posting += plan.posting;
    moving_.emplace(plan.index.value, flight{plan.transfer, plan.executor});
    if (!is_told_by_report(plan) && !std::exchange(started_, true))
        tell(transfer_started{report_header(payload_kind::kv)}, out);
    launch_piece go{plan.transfer};
    if (plan.reports_along) {
        kv_agent_result success;
        success.bytes = plan.reports_along->bytes;
        success.fragments = plan.reports_along->fragments;
        success.digest = plan.reports_along->digest;
        go.report = report_of({plan.index, unreported_.at(plan.index.value)}, std::move(success));
    }
    out.emplace_back(std::move(go));
}

void sending_receiver::end(sending_events::piece_ended& x, effects& out) {
    const send_piece piece{x.index, unreported_.at(x.index.value)};
    moving_.erase(x.index.value);
    summary_.posting += x.posting;
    if (x.route)
        summary_.route = std::move(*x.route);
    if (x.result != agent_result::success) {
        // Its executor says that it was cancelled: why is known here.
        const auto* end = std::get_if<closed>(&state_);
        return report_failed(piece, x.result,
                             end && code_of(x.why) == errc::cancelled ? end->why : x.why, out,
                             x.by_messages);
    }
    summary_.bytes += x.bytes;
    summary_.fragments += x.fragments;
    kv_agent_result success;
    success.bytes = x.bytes;
    success.fragments = x.fragments;
    success.digest = x.digest;
    success.layers_end = x.layers_end;
    report(piece, std::move(success), out, x.reported);
}

void sending_receiver::deliver_aux(const aux_record& record, effects& out) {
    if (has_aux() || is_closed())
        return;
    aux_reported_ = true;
    tell(aux_agent_result{report_header(payload_kind::aux), agent_result::success, record, {}},
         out);
}

// -- its end ------------------------------------------------------------------------------------

void sending_receiver::refuse(const caf::error& why, effects& out) {
    state_ = closed{why};
    last_reported_ = true;
    tell(refused{request_->header, side::generation, to_wire(why)}, out);
}

void sending_receiver::close(const caf::error& why, effects& out) {
    if (is_closed())
        return;
    state_ = closed{why ? why : make_error(errc::cancelled, "the transfer was given up")};
    for (const auto& [index, each] : moving_)
        out.emplace_back(cancel_piece{each.transfer});
    if (!is_complete())
        tell_cancelled(std::get<closed>(state_).why, out);
    report_closing(out);
}

void sending_receiver::close_late(const caf::error& why, effects& out) {
    state_ = closed{why};
    report_closing(out);
}

void sending_receiver::report_closing(effects& out) {
    const auto* end = std::get_if<closed>(&state_);
    if (!end || is_moving() || !request_->kv)
        return;
    for (const auto& [index, last] : std::map{unreported_})
        report_failed({{index}, last}, agent_result::failed, end->why, out);
    if (!last_reported_)
        report_failed({{dispatched_}, true}, agent_result::failed, end->why, out);
}

void sending_receiver::tell_cancelled(const caf::error& why, effects& out) {
    tell(cancel_session{request_->header, side::generation, to_wire(why)}, out);
}

void sending_receiver::relink(peer_view_ptr peer, effects& out) {
    peer_ = std::move(peer);
    layout_.reset();
    lost_ = false;
    for (const auto& report : told_)
        out.emplace_back(tell_peer{peer_, report});
    report_closing(out);
}

// -- reports ------------------------------------------------------------------------------------

message_header sending_receiver::report_header(payload_kind kind) const {
    auto result = request_->header;
    result.kind = kind;
    result.writer = writer_;
    return result;
}

kv_agent_result sending_receiver::report_of(send_piece piece, kv_agent_result result) const {
    result.header = report_header(payload_kind::kv);
    result.header.piece = piece;
    if (result.result == agent_result::success && piece.index.value < extents_.size())
        result.extent = extents_[piece.index.value];
    result.route = summary_.route.text;
    result.way = summary_.route.way;
    return result;
}

void sending_receiver::report(send_piece piece, kv_agent_result result, effects& out, bool told) {
    last_reported_ = last_reported_ || piece.last;
    unreported_.erase(piece.index.value);
    auto message = report_of(piece, std::move(result));
    if (told)
        told_.push_back(std::move(message));
    else
        tell(std::move(message), out);
}

void sending_receiver::report_failed(send_piece piece, agent_result result, const caf::error& why,
                                     effects& out, bool by_messages) {
    kv_agent_result failure;
    failure.result = result;
    failure.by_messages = by_messages;
    failure.error = to_wire(why);
    report(piece, std::move(failure), out);
}

void sending_receiver::tell(peer_message message, effects& out) {
    if (std::holds_alternative<kv_agent_result>(message)
        || std::holds_alternative<aux_agent_result>(message))
        told_.push_back(message);
    if (!lost_)
        out.emplace_back(tell_peer{peer_, std::move(message)});
}

} // namespace kvferry
