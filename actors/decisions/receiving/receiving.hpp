// SPDX-License-Identifier: Apache-2.0
// What one attempt to receive a request decides: whom to ask for what, how it ends, once, and when
// its pages are free. A pure value: events in, effects out.
//
// Where ranks share one copy over the slow link, siblings are the writers of what they share at
// first, and the context's ranks are held back, as far as it goes: they are asked for the rest when
// a sibling has failed, or they have had half of the time. A sibling hands on each piece that has
// arrived, and its pages stay on loan until that is over.
//
//     unbound ─▶ waiting ─▶ transferring ─▶ ended ─▶ released
//        └──────────┴──────────────────────────┘▲
//
// The outcome and the release are two answers. The outcome comes from reports, refusals, losses and
// deadlines; the release from evidence alone (release_ledger).
#pragma once

#include "actors/decisions/receiving/receiving_writer.hpp"
#include "actors/decisions/receiving/release_ledger.hpp"
#include "messages/limits.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace kvferry {

class receiving {
public:
    /// What does not change during the attempt.
    struct facts {
        rid request;
        kvferry::attempt attempt;
        aux_mode aux = aux_mode::none;
        std::size_t aux_bytes_max = limits{}.aux_bytes_max;
        /// This rank and the context instance's rank-info server, for texts; both outlive it.
        std::string_view self;
        std::string_view context_endpoint;
        /// The fabric's answer to forbid_writes is proof (fabric_description::by_message).
        bool forbidding_is_proof = false;
        /// The host wants to hear which layers have arrived.
        bool tell_layers = false;
        priority urgency = priority::normal;
        /// Why the reported piece of that slice has not arrived intact; empty when it has. Asked of
        /// writers that were linked with `digests` only.
        std::function<caf::error(const kv_slice& asked, const std::vector<view_place>& views,
                                 const kv_agent_result&)>
            check_digest = {};
        /// Whether what arrived has to be read elsewhere before it can be checked; then the same
        /// report comes again.
        std::function<bool(const kv_slice& asked, const std::vector<view_place>& views,
                           const kv_agent_result&)>
            read_first = {};
    };

    // -- events that are no messages ----------------------------------------------------------

    struct writer_linked {
        incarnation writer;
        bool process_watched = false;
        bool digests = false;
    };
    /// A link has ended without sending a request that it had taken.
    struct request_never_left {
        incarnation writer;
        slice_index number = {};
    };
    /// The fabric has answered forbid_writes.
    struct writes_forbidden {};
    // relay_overdue, relay_over: sessions.hpp
    /// A handler threw.
    struct carrier_failed {
        caf::error reason;
    };

    using event = std::variant<receive_slice, bind_writers, writer_linked, peer_lost, process_gone,
                               transfer_started, kv_agent_result, aux_agent_result, cancel_session,
                               gone, refused, renew_requests, keep_session, extend_session,
                               cancel_request, deadline_tick, owner_ended, carrier_failed,
                               request_never_left, writes_forbidden, relay_overdue, relay_over>;

    // -- effects that are no messages ---------------------------------------------------------

    /// May fail: request_never_left.
    struct ask_writer {
        incarnation writer;
        request_data request;
    };
    struct cancel_writer {
        incarnation writer;
        cancel_session message;
    };
    struct keep_writer {
        incarnation writer;
        session_wanted message;
    };
    struct ignore_message {
        ignored why;
    };
    /// Siblings may ask for what arrives here; answered by relay_over when nothing of it is in
    /// flight any more, or if it could not be made.
    struct open_relay {
        std::uint64_t of;
        /// Of this rank's page table; empty: all.
        std::vector<view_place> views = {};
    };
    /// What has arrived, the last of it last, and the aux record.
    struct hand_on {
        kv_slice slice;
    };
    struct hand_on_aux {
        aux_record record;
    };
    /// Nothing more is handed on. `unless_asked`: siblings that have all asked are served still.
    struct end_relay {
        caf::error reason;
        bool unless_asked = false;
    };
    struct extend_relay {
        std::chrono::milliseconds by{0};
    };
    /// The context itself is asked from here on.
    struct relay_given_up {
        caf::error reason;
    };

    /// piece_*, layers_arrived, session_finished and session_released go to the host,
    /// session_transferring, _extended, _ended and _retired to the receiver. Nothing follows
    /// session_retired.
    using effect = std::variant<ask_writer, cancel_writer, keep_writer, allow_writes, forbid_writes,
                                piece_finished, layers_arrived, session_finished, session_released,
                                session_transferring, session_extended, session_ended,
                                session_retired, ignore_message, open_relay, hand_on, hand_on_aux,
                                extend_relay, end_relay, relay_given_up>;
    using effects = recycled_vector<effect>;

    // -- states -------------------------------------------------------------------------------

    /// The context's ranks are not known.
    struct unbound {};
    /// They are; none of them has begun, and each of their DP groups may run the request.
    struct waiting {};
    /// One group has begun.
    struct transferring {
        std::optional<aux_record> aux;
    };
    /// It has its outcome; writers may still write. `reason` is empty after success.
    struct ended {
        session_state outcome = session_state::error;
        caf::error reason;
    };
    /// No event matters any more.
    struct released {
        ended how;
    };
    using phase = std::variant<unbound, waiting, transferring, ended, released>;

    explicit receiving(facts fixed) : facts_(std::move(fixed)) {}

    effects on(event&&, time_point now);

    const facts& fixed() const { return facts_; }
    const phase& now_in() const { return phase_; }
    session_state state() const;
    std::vector<session_wait> waits() const;
    /// Of the context's ranks.
    std::map<rank_id, exposure> exposures() const;
    /// A sibling hands on what its writers send.
    bool is_relayed() const;
    bool is_released() const { return std::holds_alternative<released>(phase_); }
    /// Slots that a writer may still write; before the outcome all that were lent.
    slots_on_loan on_loan() const;

private:
    /// One receive(slice) of the host.
    struct piece {
        kv_slice slice;
        /// The host has been told its end.
        bool told = false;
        /// What of it has been handed on, piece by piece; empty: nothing yet.
        std::vector<slice_extent> handed_on = {};
    };

    void take(receive_slice&);
    void take(bind_writers&);
    void take(const writer_linked&);
    void take(const peer_lost&);
    void take(const process_gone&);
    void take(const transfer_started&);
    void take(const kv_agent_result&);
    void take(const aux_agent_result&);
    void take(const cancel_session&);
    void take(const gone&);
    void take(const refused&);
    void take(const renew_requests&);
    void take(const keep_session&);
    void take(const extend_session&);
    void take(const cancel_request&);
    void take(const deadline_tick&);
    void take(const owner_ended&);
    void take(const carrier_failed&);
    void take(const request_never_left&);
    void take(const writes_forbidden&);
    void take(const relay_overdue&);
    void take(const relay_over&);

    template <class Effect>
    void add(Effect x) {
        if (effects_.empty())
            effects_.reserve(8); // they are large, and few answers are longer
        effects_.emplace_back(std::move(x));
    }
    void ignore(ignored why) { add(ignore_message{why}); }

    bool is_unbound() const { return std::holds_alternative<unbound>(phase_); }
    /// Null before it has its outcome.
    const ended* end() const;
    bool has_ended() const { return end() != nullptr; }
    bool host_gave_all() const { return !pieces_.empty() && pieces_.back().slice.last; }
    bool has_all_kv() const { return host_gave_all() && pieces_told_ == pieces_.size(); }
    /// At most one DP group is left.
    bool is_selected() const;
    bool needs_nothing_of(const receiving_writer&) const;
    /// Of that process, in their order; none when it is outside the cohorts.
    recycled_vector<receiving_writer*> writers_of(incarnation);
    /// The one that a message with this header is about, null likewise; and the piece.
    std::pair<receiving_writer*, std::uint32_t> writer_of(const message_header&);
    bool has_rest(rank_id) const;

    void request_new(receiving_writer&);
    bool request_again(receiving_writer&);
    void request(receiving_writer&, std::uint32_t piece, bool renewal);
    bool cancel(const receiving_writer&, const caf::error&);
    void begin(const receiving_writer&);
    void dismiss_others(const receiving_writer&);
    void dismiss(receiving_writer&, const caf::error&);
    void session_failed(receiving_writer&, const caf::error&);
    void group_failed(receiving_writer&, const caf::error&);
    void refuse(const message_header&, const wire_error&);
    void refuse(receiving_writer&, std::optional<std::uint32_t> piece);
    static bool is_checked(const receiving_writer&, const kv_agent_result&);
    caf::error failure_of(receiving_writer&, std::uint32_t piece, const kv_agent_result&);
    void settle(const receiving_writer&);
    void take_from_memory(receiving_writer&, const kv_agent_result&);
    void tell_served(std::uint32_t number);
    void tell_layers();
    void tell_piece(std::uint32_t number, const caf::error&);
    void succeed_if_complete();
    void fail(const caf::error& reason);
    void finish(session_state, const caf::error& reason);
    bool must_be_told(const receiving_writer&) const;
    void bind_relay(relay_binding&);
    void give_up_relay(receiving_writer& sibling, const caf::error&);
    bool siblings_brought(std::uint32_t piece) const;
    bool has_landed(std::uint32_t piece) const;
    void hand_on_landed();
    void hand_on_extents(std::uint32_t piece);
    void hand_on_extent(std::uint32_t piece, const slice_extent&);
    void tell_of_end(const caf::error&, session_ended&);
    void end_handing_on(const caf::error&);
    void fail_by(receiving_writer&, const caf::error&);
    void release_if_quiet();
    caf::error explain(const caf::error&, const receiving_writer&) const;

    facts facts_;
    phase phase_;
    recycled_vector<piece> pieces_;
    /// Pieces whose end the host has been told.
    std::size_t pieces_told_ = 0;
    /// Pieces that may have been served since this was last looked at.
    recycled_vector<std::uint32_t> touched_;
    /// Writers have become known, or are not needed any more: any piece may be served.
    bool all_touched_ = true;
    recycled_map<writer_place, receiving_writer> writers_;
    /// Says to a sibling whose bytes are meant.
    std::uint64_t relay_of_ = 0;
    /// Siblings may still ask for, or get, what has arrived here.
    bool handing_on_ = false;
    /// They get nothing more.
    bool relay_ended_ = false;
    /// Slices of which siblings had brought their part when they were given up.
    std::set<std::uint32_t> brought_;
    /// Slices handed on so far, whole.
    std::uint32_t handed_on_ = 0;
    /// The host has been told that all layers below are here.
    std::uint32_t layers_told_ = 0;
    /// What no writer has, as bind_writers told it.
    std::vector<std::uint32_t> layers_skipped_;
    std::vector<std::string> roles_skipped_;
    release_ledger release_;
    /// Of the event that is being handled.
    effects effects_;
};

} // namespace kvferry
