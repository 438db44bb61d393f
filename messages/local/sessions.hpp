// SPDX-License-Identifier: Apache-2.0
// The life of a session inside its rank: opened, bound, cancelled, ended, retired.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/recycled.hpp"
#include "messages/values/allow_missing.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/time.hpp"
#include "messages/values/trace_parent.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/error.hpp>

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

struct open_tx {
    rid request;
    aux_mode aux = aux_mode::none;
    observer_actor observer;
    /// To the first piece, and from there to the outcome.
    std::chrono::milliseconds deadline;
    std::chrono::milliseconds transfer_deadline = limits{}.transfer_deadline;
    std::optional<trace_parent> traceparent = {};
    /// Not 0: a rank hands on to its siblings what it receives from these context ranks
    /// (relay_digest).
    std::uint64_t relay_of = 0;
    /// Then what it hands on; empty: all that it has.
    std::vector<view_place> relay_views = {};
    /// Missing: as each receiver asks.
    std::optional<priority> urgency = {};
    /// The observer hears that every receiver has asked (session_ready).
    bool tell_ready = true;
    /// It hears of the death of the session's actor (caf::down_msg).
    bool tell_death = false;
};

struct open_rx {
    rid request;
    aux_mode aux = aux_mode::none;
    /// "host:port" of the context instance's rank-info server.
    std::string context_endpoint;
    /// Context DP rank that runs the request; none: all are asked, the first that answers is it.
    std::optional<std::uint32_t> context_dp_rank = 0;
    observer_actor observer;
    /// To the first piece that a writer begins, and from there to the outcome.
    std::chrono::milliseconds deadline;
    std::chrono::milliseconds transfer_deadline = limits{}.transfer_deadline;
    allow_missing allowed = {};
    /// The observer hears which layers have arrived (layers_arrived).
    bool tell_layers = false;
    /// Travels to the writers with each request.
    std::optional<trace_parent> traceparent = {};
    /// Likewise; missing: normal.
    std::optional<priority> urgency = {};
    /// The observer hears of the death of the session's actor (caf::down_msg).
    bool tell_death = false;
};

struct tx_opened {
    tx_session_actor session;
};

struct rx_opened {
    rx_session_actor session;
    kvferry::attempt attempt;
};

struct send_slice {
    kv_slice slice;
    device_events events = {};
};

struct send_aux {
    aux_record record;
};

struct receive_slice {
    kv_slice slice;
};

/// The first request_data of a receiver rank, with what is known of it.
struct bind_receiver {
    request_data request;
    peer_view_ptr peer;
};

/// A receiver rank's cancel, with what is known of it.
struct unbind_receiver {
    cancel_session cancel;
    peer_view_ptr peer;
};

/// One context rank that a receiver must hear from.
struct writer_binding {
    rank_id rank;
    kvferry::incarnation incarnation;
    /// In the KV cohort, in the aux cohort; at least one.
    bool kv = false;
    bool aux = false;
    /// Every rank of the own instance that asks this writer.
    std::vector<rank_id> receivers;
    /// Its DP group.
    std::uint32_t dp_rank = 0;
    /// The name of its instance.
    std::string instance = {};
    /// Lowest global id of a layer that it has.
    std::uint32_t first_layer = 0;
    /// It is a rank of the own instance, and hands on what it receives itself.
    bool sibling = false;
    /// Behind the highest global id of a layer that it has.
    std::uint32_t layers_end = std::numeric_limits<std::uint32_t>::max();
    /// Only these views are asked of it; empty: all.
    std::vector<view_place> views = {};
    /// A sibling is to bring that: it is asked when the sibling has failed.
    bool held_back = false;
    /// A context rank may have two bindings: the other one is for what siblings are to bring.
    bool in_parts = false;
    /// It says what its pieces are about (capability::parts).
    bool tells_extents = false;
};

/// Who carries the bytes of a request from rank to rank of one machine.
struct relay_binding {
    /// They hand on to this rank what the context sends to them.
    std::vector<writer_binding> from;
    /// Which context ranks the bytes come from.
    std::uint64_t of = 0;
    /// This rank hands on to others,
    bool hands_on = false;
    /// only these views; empty: all.
    std::vector<view_place> views = {};
};

/// `error` set: the cohorts could not be computed.
struct bind_writers {
    std::vector<writer_binding> writers;
    caf::error error;
    /// What the context does not have and the host has agreed to do without.
    std::vector<std::uint32_t> layers_skipped = {};
    std::vector<std::string> roles_skipped = {};
    std::optional<relay_binding> relay = {};
    /// Those that may be asked already; of the others comes peer_ready.
    recycled_vector<peer_view_ptr> linked = {};
};

struct cancel_request {
    caf::error reason;
    /// A sending session goes on when every receiver has asked for all.
    bool unless_asked = false;
};

/// The host wants the session to last at least so long from now on: whichever of its two clocks
/// runs, and the next one as well.
struct extend_session {
    std::chrono::milliseconds by{0};
};

/// From a session that has no outcome yet to the sender or receiver, which keeps its deadline.
struct session_extended {
    rid request;
    kvferry::attempt attempt;
    std::chrono::milliseconds by{0};
};

/// From a receiver to a session that may still wait for its host: its writers are to know that it
/// is wanted.
struct keep_session {};

/// Before a stop: nothing new, for this reason.
struct drain_sessions {
    caf::error reason;
};

struct deadline_tick {};

/// The first piece goes or has come: the session's other clock runs.
struct session_transferring {
    rid request;
    kvferry::attempt attempt;
    /// On the generation side: the DP group that serves it.
    std::uint32_t context_dp_rank = 0;
    /// When, if it is told later.
    std::optional<time_point> at = {};
};

/// The sender or receiver of a session has ended, in whatever way. Sessions do not monitor their
/// owner: CAF would keep the memory of each session that ever did until the owner ends.
struct owner_ended {};

/// From a receiver to a session that waits for a sibling: half of its time is over, and the context
/// itself is to have the other half.
struct relay_overdue {};

/// Nothing that a session hands on to siblings is in flight any more, nor will be.
struct relay_over {};

/// Ask the writers again for what they have not reported on.
struct renew_requests {};

/// The host has been told the outcome, and the peers all that it demands at once.
struct session_ended {
    rid request;
    kvferry::attempt attempt;
    /// Why it failed; none after success.
    caf::error reason = {};
    /// Of a receiving session that failed: writers that have not heard of it from this session.
    std::vector<rank_id> untold = {};
    /// Of one that succeeded: writers whose bytes a sibling has handed on; they wait to hear so.
    std::vector<rank_id> relayed = {};
    /// By the number of a request that they have not been sent.
    slice_index relayed_as = {};
};

/// A transfer has failed, and may still change its target.
struct transfer_doubt {
    /// Only by messages, which the target's own loop takes in or refuses. Otherwise through a
    /// mapping or by RMA: as long as this process lives.
    bool by_messages = false;
    caf::error why;
};

/// Ended and released. `reason` says why it ended; empty after success.
struct session_retired {
    rid request;
    kvferry::attempt attempt;
    caf::error reason;
    /// On the context side: the worst of its transfers.
    std::optional<transfer_doubt> in_doubt = {};
    /// What it has not told before, and happened before.
    std::optional<session_transferring> begun = {};
    std::optional<session_ended> ended = {};
};

} // namespace kvferry
