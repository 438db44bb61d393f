// SPDX-License-Identifier: Apache-2.0
// What a sending session can learn, and what it can have its actor do.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/planner/plan/pair_layout.hpp"

#include <caf/error.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

/// One receive(slice) of one receiver rank.
using receiver_key = std::pair<rank_id, slice_index>;

namespace sending_events {

/// A receiver rank asks for one slice.
struct asked {
    bind_receiver ask;
    /// Held until the session ends: the receiver's link watches whether it is silent.
    std::shared_ptr<const void> wait;
    /// Why the request cannot be served, if so.
    caf::error problem;
    /// Whatever its pieces are planned with.
    std::shared_ptr<const pair_layout> layout = {};
};

/// Answers plan_piece: the bytes have a route and can go.
struct piece_planned {
    receiver_key to;
    slice_index index;
    /// The operation that will move them.
    transfer_id transfer;
    taken_route route = {};
    /// Who moves them, by its name in traces.
    std::string_view executor = {};
    std::chrono::nanoseconds posting{0};
    /// What the report of success will say, when it can travel with the bytes.
    struct amount {
        std::uint64_t bytes = 0;
        std::uint64_t fragments = 0;
        std::optional<piece_digest> digest = {};
    };
    std::optional<amount> reports_along = {};
};

/// Answers plan_piece, when the piece was empty, was copied on the spot or cannot go; and ends what
/// was launched.
struct piece_ended {
    receiver_key to;
    slice_index index;
    agent_result result = agent_result::success;
    caf::error why = {};
    std::uint64_t bytes = 0;
    std::uint64_t fragments = 0;
    /// Missing: as it was planned.
    std::optional<taken_route> route = {};
    std::chrono::nanoseconds posting{0};
    std::optional<piece_digest> digest = {};
    /// When it is in doubt: transfer_doubt::by_messages.
    bool by_messages = false;
    /// For a receiver that wants to hear it: kv_agent_result::layers_end.
    std::uint32_t layers_end = 0;
    /// The receiver has got the report of success with the bytes.
    bool reported = false;
};

/// The session's own code failed.
struct failed {
    caf::error why;
};

using any = std::variant<send_slice, send_aux, asked, piece_planned, piece_ended, unbind_receiver,
                         gone, peer_lost, process_gone, cancel_request, extend_session,
                         deadline_tick, owner_ended, failed>;

} // namespace sending_events

namespace sending_effects {

/// All that a sending session says to a receiver; a third of the size of a wire_message.
using peer_message = std::variant<transfer_started, kv_agent_result, aux_agent_result,
                                  cancel_session, refused, gone>;

struct tell_peer {
    peer_view_ptr peer;
    peer_message message;
};

struct tell_host {
    std::variant<piece_finished, session_ready, session_finished, session_released> message;
};

struct tell_owner {
    std::variant<session_transferring, session_extended, session_ended, session_retired> message;
};

/// Finds out which bytes go where and how; answered with piece_planned or piece_ended. Of one
/// session one at a time.
struct plan_piece {
    receiver_key to;
    slice_index index;
    std::shared_ptr<const request_data> request;
    std::shared_ptr<const send_slice> source;
    peer_view_ptr peer;
    /// asked::layout, while the peer is as it was then.
    std::shared_ptr<const pair_layout> layout;
};

/// Moves what was planned; ends with piece_ended, once.
struct launch_piece {
    transfer_id transfer;
    /// Travels with the bytes: the receiver hears it as soon as all of them are there.
    std::optional<kv_agent_result> report = {};
};

struct cancel_piece {
    transfer_id transfer;
};

struct count_ignored {
    ignored why;
};

/// Nothing comes to this session any more.
struct quit {};

using any = std::variant<tell_peer, tell_host, tell_owner, plan_piece, launch_piece, cancel_piece,
                         count_ignored, quit>;
using list = recycled_vector<any>;

} // namespace sending_effects

} // namespace kvferry
