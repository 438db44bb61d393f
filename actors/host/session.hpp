// SPDX-License-Identifier: Apache-2.0
// Session handles of a host: cheap to copy, thread-safe, never blocking unless a function says so.
#pragma once

#include "actors/host/host_calls.hpp"
#include "actors/host/session_gate.hpp"
#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/values/allow_missing.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/kv_slice.hpp"

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>

namespace kvferry {

/// The end of one send(slice), send_aux() or receive(slice); the session has its own outcome.
class piece_handle {
public:
    explicit piece_handle(std::shared_ptr<promised<piece_finished>> told)
        : told_(std::move(told)) {}

    /// Blocks until the piece has ended, at latest with its session. Empty error: success. Call
    /// once.
    caf::error get();

    bool ready() const;

private:
    std::shared_ptr<promised<piece_finished>> told_;
};

/// Why a call is refused when host_calls::enter() gave no place.
caf::error too_many_calls(const host_calls&, rid);

/// What both kinds of sessions offer.
class session_handle {
public:
    /// The final state; resolves once, at latest by the session's deadline. In a forked child it is
    /// an error at once.
    std::shared_future<session_finished> outcome() const;

    /// Resolves when nobody touches the session's pages any more. May come long after the outcome;
    /// without proof it never comes, and worker statistics show the session as quarantined. In a
    /// forked child get() throws at once: nothing is known there of the parent's pages.
    std::shared_future<session_released> released() const;

    /// Gives the session up; idempotent. Outcome CANCELLED unless it has another one already.
    void cancel(std::string why = "the host cancelled") const;

    /// For leases that a scheduler renews: the session does not end by itself before `by` has
    /// passed, whether it waits for its peer or transfers already; a deadline that is later stays.
    /// The other side has a deadline of its own: its host extends that one, but for a sending
    /// session whose receiver waits for slots (limits::session_keep_interval). gone: it has its
    /// outcome. invalid_argument: `by` is not positive. limit_exceeded: it would be older than
    /// limits::session_age_max then; nothing has changed.
    [[nodiscard]] caf::error extend(std::chrono::milliseconds by) const;

    /// Slots that somebody may still read (sending) or write (receiving), by layer group: before
    /// the outcome all that were lent, from its release on none. After a failure these are the
    /// slots in doubt. Blocks for one round trip through the rank. handler_failed, stopped: nobody
    /// can say it, all that were lent are.
    caf::expected<slots_on_loan> slots_in_doubt() const;

    /// State, loans and what it waits for. Blocks for one round trip through the rank; once it is
    /// released the answer is here, and waits for nothing. gone: it was refused when it was opened.
    /// stopped: its worker has ended before its release.
    caf::expected<session_status> status() const;

    rid request() const { return request_; }

    /// For worker, which makes the sessions; without a gate for one that is refused.
    session_handle(caf::actor_system* system, rid request, session_gate_actor gate,
                   std::shared_ptr<session_promises> promises, std::shared_ptr<host_calls> calls,
                   std::chrono::milliseconds age_max = limits{}.session_age_max);

protected:
    /// Sends `message` with a promise; without a place for it, the piece and the session fail.
    template <class Message>
    piece_handle start(Message message) const;

    template <class Reply, class Question>
    caf::expected<Reply> ask(Question) const;

    caf::actor_system* system_;
    rid request_;
    session_gate_actor gate_;
    std::shared_ptr<host_calls> calls_;
    std::shared_ptr<session_promises> promises_;
    std::chrono::steady_clock::time_point oldest_;
};

/// Sending side of one request on one context rank. Pieces count in the order of the calls: one
/// thread at a time drives a session.
class tx_handle : public session_handle {
public:
    using session_handle::session_handle;

    /// Lends the slice's slots until released(). Events are for slices that a device copies:
    /// prefill of the next layers goes on while this one waits for its own event.
    piece_handle send(kv_slice slice, device_events events = {}) const;

    /// At most once, and only when the session was opened with aux_mode::required.
    piece_handle send_aux(aux_record record) const;
};

/// Receiving side of one request on one generation rank.
class rx_handle : public session_handle {
public:
    using session_handle::session_handle;

    /// Lends the slice's slots, to be written, until released(); not before events.wait_for has
    /// happened, so that queued kernels may still read them. The event must live until the piece
    /// has ended or, when the session fails, until released(). There is no use for
    /// events.completed: the end of the piece says it.
    piece_handle receive(kv_slice slice, device_events events = {}) const;
};

/// How a host opens a session.
struct session_options {
    rid request;
    aux_mode aux = aux_mode::none;
    /// Time from open to the first piece sent or received; limits::session_deadline when missing.
    std::optional<std::chrono::milliseconds> deadline;
    /// Run in order on a thread that the rank has for them; may block, may throw. Called for a
    /// session that is refused, too. Quicker: quick_callbacks.
    std::function<void(const session_finished&)> on_outcome;
    std::function<void(const session_released&)> on_released;
    /// Run in the same way, when every receiver rank of a sending session has asked. A session that
    /// fails before that is never ready.
    /// It tells what they want: a receiver that has a prefix already wants fewer blocks.
    std::function<void(const session_ready&)> on_ready = {};
    /// Time from the first piece to the outcome; limits::transfer_deadline when missing.
    std::optional<std::chrono::milliseconds> transfer_deadline = {};
    /// Run in the same way, when a piece ends by itself: with success, or with the reason why it
    /// was refused while the session goes on. Pieces that end with the session are not told here.
    std::function<void(const piece_finished&)> on_piece = {};
    /// Receiving sessions: parts of the cache that may stay unwritten because the context does not
    /// have them; the outcome lists them. Otherwise such a session ends in layout_mismatch.
    allow_missing allowed = {};
    /// Run in the same way: of a receiving session without an outcome all layers below
    /// layers_arrived::end are written, after the host's last receive(slice). Success is still told
    /// for the whole.
    std::function<void(const layers_arrived&)> on_layers = {};
    /// W3C's `traceparent` of the engine's span that this session is part of; empty: none. The
    /// receiving side's travels with the request. Anything else refuses the session.
    std::string traceparent = {};
    /// On: the callbacks run on the rank's own thread, the moment that something happens, and not
    /// on the one that it has for them: that saves a change of threads, and the whole rank waits
    /// until they return. They must neither block nor take long; calls that wait for the rank, or
    /// end it, are refused in them (unsupported). Of a session that is refused when it is opened
    /// they still run on the other thread. For hosts that only push into a queue or wake somebody.
    bool quick_callbacks = false;
    /// How urgent its bytes are wherever they wait for others': three classes that share by weight
    /// (messages/values/priority.hpp), none of which starves. The receiving side's travels with the
    /// request, and is normal when missing; a sending side that says nothing goes by it.
    std::optional<kvferry::priority> priority = {};
};

/// Where a receiving session finds its writers.
struct context_address {
    /// "host:port" of the context instance's rank-info server, or what add_instance() returned.
    std::string endpoint;
    /// Which DP group runs the request; 0 without attention DP. nullopt when nobody knows yet: all
    /// groups are asked; the first to answer is chosen.
    std::optional<std::uint32_t> dp_rank = 0;
};

} // namespace kvferry
