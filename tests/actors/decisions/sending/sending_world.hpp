// SPDX-License-Identifier: Apache-2.0
// A sending session and two receiver ranks, all of them plain values.
#pragma once

#include "actors/decisions/sending/sending.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

inline constexpr rid sent_request{7};

inline std::shared_ptr<const rank_info> sending_rank() {
    auto result = std::make_shared<rank_info>();
    result->instance = "ctx";
    result->rank = {3};
    return result;
}

inline peer_view_ptr receiver_view(std::uint32_t rank) {
    auto result = std::make_shared<peer_view>();
    result->info.instance = "gen";
    result->info.rank = {rank};
    result->info.incarnation = {100 + rank};
    return result;
}

inline sending make_sending(aux_mode aux = aux_mode::none) {
    return sending{{sent_request, aux, sending_rank(), 1024}};
}

inline send_slice slice_event(bool last = true) {
    return {{{0, 4}, 4, {}, last}, {}};
}

inline message_header header_from(std::uint32_t rank, std::uint32_t receive_slice = 0,
                                  std::uint64_t attempt = 11) {
    message_header result;
    result.sender = {100 + rank};
    result.request = sent_request;
    result.attempt = {attempt + rank};
    result.receive_slice = {receive_slice};
    result.kind = payload_kind::kv;
    return result;
}

/// What `receivers` ranks in all ask for; `last`: of this rank's slices.
inline sending_events::asked ask_event(const peer_view_ptr& peer, std::uint32_t receivers = 1,
                                       std::uint32_t receive_slice = 0, bool last = true) {
    sending_events::asked result;
    result.ask.peer = peer;
    result.ask.request.header = header_from(peer->info.rank.value, receive_slice);
    result.ask.request.target.last = last;
    for (std::uint32_t rank = 0; rank < receivers; ++rank)
        result.ask.request.receivers.push_back({rank});
    return result;
}

inline unbind_receiver give_up_event(const peer_view_ptr& peer, std::uint64_t attempt = 11) {
    unbind_receiver result;
    result.peer = peer;
    result.cancel.header = header_from(peer->info.rank.value, 0, attempt);
    result.cancel.to = side::context;
    result.cancel.reason = {errc::cancelled, "the receiver cancelled"};
    return result;
}

/// An effect as a table shows it: "tell 0: kv 0 success", "host: ready", "plan 0/0 #0".
inline std::string shown(const sending_effects::peer_message& x) {
    if (const auto* report = std::get_if<kv_agent_result>(&x))
        return "kv " + to_string(report->header.piece.index)
               + (report->header.piece.last ? " last " : " ") + to_string(report->result);
    if (const auto* report = std::get_if<aux_agent_result>(&x))
        return "aux " + to_string(report->result);
    if (const auto* cancel = std::get_if<cancel_session>(&x))
        return "cancel " + to_string(cancel->reason.code);
    if (const auto* answer = std::get_if<gone>(&x))
        return "gone " + to_string(answer->reason.code);
    if (const auto* answer = std::get_if<refused>(&x))
        return "refused " + to_string(answer->reason.code);
    return "transfer_started";
}

inline std::string shown(const sending::effect& x) {
    struct names {
        std::string operator()(const piece_finished& x) {
            return (x.kind == payload_kind::aux ? "aux" : "piece " + to_string(x.index))
                   + (x.error ? " " + to_string(code_of(x.error)) : " served");
        }
        std::string operator()(const session_ready&) { return "ready"; }
        std::string operator()(const session_finished& x) {
            return to_string(x.state) + (x.error ? " " + to_string(code_of(x.error)) : "");
        }
        std::string operator()(const session_released&) { return "released"; }
        std::string operator()(const session_transferring&) { return "transferring"; }
        std::string operator()(const session_extended& x) {
            return "extended by " + std::to_string(x.by.count()) + " ms";
        }
        std::string operator()(const session_ended&) { return "ended"; }
        std::string operator()(const session_retired& x) {
            return std::string{"retired"} + (x.in_doubt ? " in doubt" : "")
                   + (x.in_doubt && x.in_doubt->by_messages ? " about messages" : "");
        }
        std::string operator()(const sending_effects::tell_peer& x) {
            return "tell " + to_string(x.peer->info.rank) + ": " + shown(x.message);
        }
        std::string operator()(const sending_effects::tell_host& x) {
            return "host: " + std::visit(*this, x.message);
        }
        std::string operator()(const sending_effects::tell_owner& x) {
            return "owner: " + std::visit(*this, x.message);
        }
        std::string operator()(const sending_effects::plan_piece& x) {
            return "plan #" + to_string(x.index) + " for " + to_string(x.to.first) + "/"
                   + to_string(x.to.second);
        }
        std::string operator()(const sending_effects::launch_piece& x) {
            return "launch " + to_string(x.transfer);
        }
        std::string operator()(const sending_effects::cancel_piece& x) {
            return "stop " + to_string(x.transfer);
        }
        std::string operator()(const sending_effects::count_ignored& x) {
            return x.why == ignored::late              ? "count late"
                   : x.why == ignored::duplicate       ? "count duplicate"
                   : x.why == ignored::foreign_attempt ? "count foreign"
                                                       : "count something";
        }
        std::string operator()(const sending_effects::quit&) { return "quit"; }
    };
    return std::visit(names{}, x);
}

inline std::string shown(const sending::effects& all) {
    std::string result;
    for (const auto& each : all)
        result.append(result.empty() ? "" : ", ").append(shown(each));
    return result.empty() ? "-" : result;
}

} // namespace kvferry::testing
