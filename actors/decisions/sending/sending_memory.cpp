// SPDX-License-Identifier: Apache-2.0
// Answers for sessions that are no more.
#include "actors/decisions/sending/sending_memory.hpp"

#include "actors/shared/behind_all_pieces.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// Doubtful attempts that are remembered; each stands for pages that may never come back.
constexpr std::size_t doubtful_max = 65536;

bool has(const attempts_of_ranks& known, const message_header& header) {
    const auto found = known.find(header.sender);
    return found != known.end() && found->second == header.attempt;
}

wire_message cancel_of(const message_header& of, const caf::error& why) {
    return cancel_session{of, side::generation, to_wire(why)};
}

} // namespace

bool sending_requests::add(const message_header& header) {
    const auto first = bound.try_emplace(header.sender, header.attempt).second;
    const auto known = std::any_of(headers.begin(), headers.end(), [&](const auto& other) {
        return other.sender == header.sender && other.receive_slice == header.receive_slice;
    });
    if (may_serve(header) && !known)
        headers.push_back(header);
    return first;
}

bool sending_requests::may_serve(const message_header& header) const {
    return has(bound, header);
}

sending_memory::effects sending_memory::on(event&& what, time_point now) {
    effects out;
    std::visit([&](auto& each) { handle(each, now, out); }, what);
    return out;
}

// -- what comes late ----------------------------------------------------------------------------

void sending_memory::handle(asked& x, time_point, effects& out) {
    const auto& request = x.ask.request;
    if (answered_by_former(request, out))
        return;
    if (x.served) {
        out.emplace_back(bind{std::move(x.ask)});
        return;
    }
    if (const auto found = dead_.find(request.header.request); found != dead_.end())
        return answer_for_the_dead(found->second, request, out);
    if (!answered_by_ending(request, out))
        out.emplace_back(keep_early{std::move(x.ask)});
}

/// Of each receiver rank the first attempt counts as meant for the session that ended; another
/// attempt begins anew.
bool sending_memory::answered_by_ending(const request_data& request, effects& out) {
    const auto& header = request.header;
    const auto found = ended_.find(header.request);
    if (found == ended_.end())
        return false;
    auto& [why, told] = found->second;
    if (why)
        told.try_emplace(header.sender, header.attempt);
    if (!has(told, header))
        return false;
    answer_ended(found->second, header, out);
    return true;
}

/// The session that lives may have been opened for other bytes.
bool sending_memory::answered_by_former(const request_data& request, effects& out) const {
    const auto found = former_.find(request.header.request);
    if (found == former_.end() || !has(found->second.told, request.header))
        return false;
    answer_ended(found->second, request.header, out);
    return true;
}

/// After success only an attempt that has lost its reports with its link asks again.
void sending_memory::answer_ended(const ending& x, const message_header& of, effects& out) const {
    answer_gone(of,
                x.why
                    ? x.why
                    : make_error(errc::gone, "rid {} was sent, but its reports went with the link",
                                 of.request),
                out);
}

void sending_memory::handle(given_up& x, time_point, effects& out) {
    const auto& cancel = x.by.cancel;
    const auto id = cancel.header.request;
    const auto found = dead_.find(id);
    if (!x.served && found == dead_.end()) {
        out.emplace_back(give_up_early{std::move(x.by), ended_.contains(id)});
        return;
    }
    if (const auto former = former_.find(id);
        former != former_.end() && has(former->second.told, cancel.header)) {
        answer_gone(cancel.header, from_wire(cancel.reason), out);
    } else if (x.served) {
        out.emplace_back(unbind{std::move(x.by)});
    } else if (!found->second.asked.may_serve(cancel.header)) {
        answer_gone(cancel.header, found->second.why, out);
    } else {
        out.emplace_back(count_ignored{ignored::session_died});
        answer_in_doubt(cancel.header, found->second.why, out); // perhaps once more
    }
}

/// Answers `gone` only to attempts that the session never knew.
void sending_memory::answer_for_the_dead(const dead& x, const request_data& request,
                                         effects& out) const {
    if (!x.asked.may_serve(request.header))
        return answer_gone(request.header, x.why, out);
    out.emplace_back(count_ignored{ignored::session_died});
    if (request.kv) // what it was told before may have gone down with its link
        answer_in_doubt(request.header, x.why, out);
    else
        out.emplace_back(tell_peer{request.header.sender, cancel_of(request.header, x.why)});
}

void sending_memory::handle(const not_served& x, time_point, effects& out) {
    answer_gone(x.header, x.why, out);
}

// -- how sessions end ---------------------------------------------------------------------------

void sending_memory::handle(const opened& x, time_point, effects&) {
    if (auto ended = ended_.extract(x.request))
        former_[x.request] = std::move(ended.mapped());
    leases_.erase(x.request);
}

void sending_memory::handle(retired& x, time_point now, effects&) {
    former_.erase(x.request);
    if (x.in_doubt)
        for (const auto& [process, attempt] : x.served)
            doubtful_.emplace(attempt, x.in_doubt->by_messages);
    // Successes leave room for failures, which matter more.
    if (ended_.size() >= with_.endings_max / (x.why ? 1 : 2))
        return;
    ended_[x.request] = {std::move(x.why), std::move(x.served)};
    leases_.set(x.request, now + with_.lease);
}

/// Its transfers go on, and nobody learns when they end. If the rank forgot the session instead, it
/// would answer `gone`, which receivers take for proof.
void sending_memory::handle(died& x, time_point, effects& out) {
    for (const auto& header : x.asked.headers) {
        if (!x.outcome_told)
            out.emplace_back(tell_peer{header.sender, cancel_of(header, x.why)});
        if (header.kind == payload_kind::kv)
            answer_in_doubt(header, x.why, out);
    }
    dead_[x.request] = {std::move(x.why), std::move(x.asked)};
}

void sending_memory::handle(const tick&, time_point now, effects&) {
    for (auto id : leases_.due(now))
        ended_.erase(id);
}

// -- answers ------------------------------------------------------------------------------------

/// When the set of doubtful attempts is full, every attempt counts as one: pages are then kept that
/// need not be, but none is lost to a late write.
void sending_memory::answer_gone(const message_header& of, const caf::error& why,
                                 effects& out) const {
    const auto doubtful = doubtful_.find(of.attempt);
    if (doubtful != doubtful_.end() || doubtful_.size() >= doubtful_max)
        return answer_in_doubt(of, why, out, doubtful != doubtful_.end() && doubtful->second);
    out.emplace_back(tell_peer{of.sender, gone{of, side::generation, to_wire(why)}});
}

void sending_memory::answer_in_doubt(const message_header& of, const caf::error& why, effects& out,
                                     bool by_messages) const {
    kv_agent_result report;
    report.header = of;
    report.header.kind = payload_kind::kv;
    report.header.writer = with_.self;
    report.header.piece = behind_all_pieces;
    report.result = agent_result::in_doubt;
    report.by_messages = by_messages;
    report.error = to_wire(why);
    out.emplace_back(tell_peer{of.sender, std::move(report)});
}

} // namespace kvferry
