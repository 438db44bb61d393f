// SPDX-License-Identifier: Apache-2.0
// What a host hears of a session: pieces, the outcome, the release.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/route.hpp"
#include "messages/values/session_state.hpp"
#include "messages/wire/header.hpp"

#include <caf/error.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

/// One piece. `index` counts send(slice) or receive(slice); for aux it is 0.
struct piece_finished {
    side role = side::context;
    rid request;
    kvferry::attempt attempt = {};
    payload_kind kind = payload_kind::kv;
    slice_index index = {};
    caf::error error = {};
};

/// What one receiver rank asks a sending session for.
struct receiver_wants {
    rank_id rank;
    /// As the receiver says: equal to the sender's, or the session fails.
    std::uint32_t prompt_tokens = 0;
    /// Tokens before the first one that it wants: it has them already. Windows let go of more; they
    /// count only where no layer has full attention.
    std::uint32_t prefix_tokens = 0;
    /// Its blocks, of its own size and of all its layer groups.
    std::uint64_t blocks = 0;
};

struct session_ready {
    rid request;
    /// Of every rank that wants KV bytes, in rank order.
    std::vector<receiver_wants> wants = {};
};

/// A receiving session without an outcome: every layer below this global id is written whole, so
/// that decoding may begin with them. `end` only grows; the largest number: all layers.
struct layers_arrived {
    rid request;
    kvferry::attempt attempt;
    std::uint32_t end = 0;
};

/// What one peer contributed, as its results told.
struct peer_summary {
    rank_id rank;
    std::uint64_t bytes = 0;
    std::uint64_t fragments = 0;
    taken_route route = {};
    /// Context side: from taking a request or a slice to its first byte (plan, check, hand-over),
    /// without the time that messages were on their way between threads.
    std::chrono::nanoseconds posting{0};
    /// Generation side: pieces whose digest was compared (limits::digests).
    std::uint32_t digests = 0;
    /// Generation side: a rank of the own instance, which has handed on what it received.
    bool sibling = false;
};

struct session_finished {
    side role = side::context;
    rid request;
    kvferry::attempt attempt = {};
    session_state state = session_state::init;
    caf::error error = {};
    /// Filled on the generation side when aux was required.
    aux_record aux = {};
    std::vector<peer_summary> peers = {};
    /// Generation side, after consent (allow_missing): global layers, and roles of other layers,
    /// that the context does not have. They were not written.
    std::vector<std::uint32_t> layers_skipped = {};
    std::vector<std::string> roles_skipped = {};
};

struct session_released {
    side role = side::context;
    rid request;
    kvferry::attempt attempt;
};

} // namespace kvferry
