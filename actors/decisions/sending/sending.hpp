// SPDX-License-Identifier: Apache-2.0
// The decisions of one transfer on a context rank: whom it serves, what it reports, when it ends
// and when its source pages are free. A pure value; tx_session carries it.
#pragma once

#include "actors/decisions/sending/sending_messages.hpp"
#include "actors/decisions/sending/sending_receiver.hpp"
#include "messages/errors.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/local/status.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/session_state.hpp"
#include "messages/values/time.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

namespace kvferry {

class sending {
public:
    using event = sending_events::any;
    using effect = sending_effects::any;
    using effects = sending_effects::list;

    struct terms {
        rid request;
        aux_mode aux = aux_mode::none;
        /// The rank that sends.
        std::shared_ptr<const rank_info> self;
        std::size_t aux_bytes_max = 0;
        /// open_tx::tell_ready.
        bool tell_ready = true;
    };

    explicit sending(terms);

    effects on(event&&, time_point now);

    session_status status() const;
    std::vector<session_wait> waits() const;
    session_state state() const;
    bool has_ended() const { return !std::holds_alternative<serving>(phase_); }
    bool is_released() const { return std::holds_alternative<released>(phase_); }
    /// The attempt that serves this receiver rank, once it has asked.
    std::optional<attempt> attempt_of(rank_id) const;
    /// Null unless the rank has asked for that slice.
    const sending_receiver* find(const receiver_key&) const;
    /// Slots that this rank may still read; before the outcome all that were lent.
    slots_on_loan on_loan() const;

private:
    /// No outcome yet.
    struct serving {
        session_state reached = session_state::init;
        bool ready_told = false;
        bool first_piece_told = false;
    };
    /// The outcome is told; transfers of this rank may still read the source pages.
    struct ended {
        session_state outcome;
        caf::error why;
        /// Its sender died: no messages are routed here any more, and no actor waits for its
        /// retirement.
        bool orphaned = false;
    };
    struct released {
        session_state outcome;
        caf::error why;
    };

    /// One send(slice) of the host, and the receivers it has reached.
    struct piece {
        std::shared_ptr<const send_slice> source;
        recycled_set<receiver_key> served;
        bool told_host = false;
        bool last() const { return source->slice.last; }
    };

    struct given_aux {
        aux_record record;
        bool told_host = false;
    };

    void handle(send_slice&, effects&);
    void handle(send_aux&, effects&);
    void handle(sending_events::asked&, effects&);
    void handle(sending_events::piece_planned&, effects&);
    void handle(sending_events::piece_ended&, effects&);
    void handle(unbind_receiver&, effects&);
    void handle(gone&, effects&);
    void handle(peer_lost&, effects&);
    void handle(process_gone&, effects&);
    void handle(cancel_request&, effects&);
    void handle(extend_session&, effects&);
    void handle(deadline_tick&, effects&);
    void handle(owner_ended&, effects&);
    void handle(sending_events::failed&, effects&);

    void answer_late(bind_receiver, effects&);
    bool plan_next_piece(effects&);
    void go_on(effects&);
    void tell_piece(std::uint32_t index, const caf::error&, effects&);
    void tell_aux(const caf::error&, effects&);
    void tell_served(std::uint32_t index, effects&);
    void update(effects&);
    void finish(session_state, const caf::error&, effects&);
    void fail(const caf::error& why, effects& out) { finish(session_state::error, why, out); }
    void release_if_quiet(effects&);

    bool host_gave_all() const { return !pieces_.empty() && pieces_.back().last(); }
    bool all_bound() const;
    bool asked_for_all(rank_id) const;
    bool waits_for_siblings(rank_id) const;
    void fail_without(rank_id, const caf::error& why, effects&);
    bool has_begun(rank_id) const;
    bool kv_complete() const;
    bool aux_complete() const;
    bool is_served(const piece&) const;
    /// What the receiver ranks ask for, in rank order.
    std::vector<receiver_wants> wants() const;
    /// Why it ended; none before, and after success.
    caf::error why_ended() const;
    std::string text() const { return "rid " + to_string(with_.request); }

    terms with_;
    std::variant<serving, ended, released> phase_;
    recycled_vector<piece> pieces_;
    /// Pieces that may have been served since the last update.
    recycled_vector<std::uint32_t> touched_;
    /// Receivers have come or are missing: any piece may be served when all are there.
    bool all_touched_ = true;
    /// A piece is being planned: its answer comes before the next one is.
    std::optional<std::pair<receiver_key, slice_index>> planning_;
    std::optional<given_aux> aux_;
    recycled_map<receiver_key, sending_receiver> receivers_;
    /// The attempt of each receiver rank; its first request binds it.
    recycled_map<rank_id, attempt> attempts_;
    /// Ranks that had asked for pieces not yet given when their link was lost, by process: they may
    /// ask again over a new one.
    std::map<incarnation, rank_id> left_;
    /// Ranks of the receiving instance that will ask, as the requests say.
    recycled_set<rank_id> expected_;
    /// They may bring each other what they have asked for (capability::relays).
    bool relayed_ = false;
    /// Of those some are gone: the outcome, once the others have what they ask for.
    std::map<rank_id, caf::error> gone_;
    std::optional<transfer_doubt> doubt_;
};

} // namespace kvferry
