// SPDX-License-Identifier: Apache-2.0
// What a peer_link is told, and what it tells of its peer.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/error.hpp>

#include <chrono>

namespace kvferry {

struct connect_peer {
    rank_info peer;
};

/// About a peer that connect_peer has named.
struct await_peer {
    incarnation peer;
};

struct peer_connected {
    peer_link_actor link;
};

/// The link fills version, incarnations and sequence of the header.
struct send_message {
    static constexpr bool leaves_rank = true;

    wire_message message;
};

struct start_link {};

/// Ends the link. A goodbye is proof to the peer that nothing of this rank moves any more: a rank
/// that cannot vouch for that closes without one.
struct close_link {
    caf::error reason;
    bool goodbye = true;
    /// How long the peer may take to accept the last frame, if less than limits::dial_deadline.
    std::chrono::milliseconds within = std::chrono::milliseconds::max();
};

struct peer_ready {
    peer_view_ptr peer;
};

struct peer_lost {
    incarnation peer;
    caf::error reason;
    /// From a receiver to its sessions: the peer is being dialled anew, and another peer_ready or
    /// peer_lost comes.
    bool dialled_again = false;
};

} // namespace kvferry
