// SPDX-License-Identifier: Apache-2.0
// One transfer on a context rank: serves every receiver rank that asks, reports each piece once.
#pragma once

#include "actors/context/sender.hpp"
#include "messages/local/outcomes.hpp"
#include "transport/planner/plan.hpp"

#include <map>
#include <optional>
#include <set>
#include <vector>

namespace kvferry {

struct tx_session_state {
    static inline constexpr const char* name = "tx_session";

    struct dependencies {
        std::shared_ptr<const sender_environment> environment;
        sender_actor owner;
        observer_actor observer;
        rid request;
        aux_mode aux = aux_mode::none;
        /// Makes the transfer ids of this session unique inside the rank.
        std::uint32_t serial = 0;
    };

    tx_session_state(tx_session_actor::pointer self, dependencies);

    tx_session_actor::behavior_type make_behavior();

    /// An exception in a handler ends this session.
    void handler_failed(const caf::error&);

private:
    /// A piece on its way.
    struct flight {
        send_piece piece;
        /// Who copies; null when the fabric does, or when it is staged.
        copy_actor copier;
        staged_put_actor staged;
        std::shared_ptr<const copy_plan> plan;
    };

    /// One receive(slice) of one receiver rank; a rank's attempt is bound by its first request.
    struct receiver {
        request_data request;
        peer_view_ptr peer;
        /// Held until the session ends: its link watches whether it is silent.
        std::shared_ptr<const void> wait;
        std::map<transfer_id, flight> in_flight;
        /// Pieces handed to a route or reported as empty or failed, counted from 0.
        std::uint32_t dispatched = 0;
        /// Dispatched pieces that have not been reported.
        std::set<std::uint32_t> unreported;
        bool last_reported = false;
        bool aux_reported = false;
        /// Why this receiver gets no further piece: it failed, gave up or was lost.
        caf::error closed;
        /// Its link is gone: reports cannot be sent.
        bool lost = false;
        /// It knows that its first piece is being written.
        bool started = false;
        /// Its reports, for the case that it asks again over a new link.
        std::vector<wire_message> told;
        peer_summary summary;
    };

    using receiver_key = std::pair<rank_id, slice_index>;

    /// One send(slice) of the host, and the receivers it has reached.
    struct piece {
        kv_slice slice;
        device_events events;
        std::set<receiver_key> served;
        bool told_host = false;
    };

    void on_send(const send_slice&);
    void on_send_aux(const send_aux&);
    void on_bind(const bind_receiver&);
    void on_done(const transfer_done&);
    void on_unbind(const unbind_receiver&);
    void on_gone(const gone&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    void on_host_cancel(const cancel_request&);
    void on_deadline(const deadline_tick&);
    void on_owner_ended(const owner_ended&);
    caf::result<session_status> on_status(const query_status&);

    void answer_late(const bind_receiver&);
    caf::error check_request(const bind_receiver&) const;
    caf::expected<bool> brings_kv_to(const rank_info& peer) const;
    void dispatch_all(receiver&);
    void dispatch(receiver&, std::uint32_t index);
    void start(receiver&, send_piece, const std::shared_ptr<const copy_plan>&, time_point taken);
    void cancel_transfers(const receiver&);
    void deliver_aux(receiver&);
    void piece_served(receiver&, send_piece, const copy_plan&);
    void piece_failed(receiver&, send_piece, agent_result, const caf::error&);
    void report_kv(receiver&, send_piece, kv_agent_result);
    void report_failed(receiver&, send_piece, agent_result, const caf::error&);
    void close(receiver&, const caf::error& reason);
    void report_closing(receiver&);
    void tell_peer(receiver&, wire_message);
    void tell_started(receiver&);
    void relink(receiver&, const peer_view_ptr&);
    bool has_begun(rank_id) const;

    bool host_gave_all() const;
    bool all_bound() const;
    bool asked_for_all(rank_id) const;
    bool kv_complete() const;
    bool aux_complete() const;
    bool complete(const receiver&) const;
    bool is_served(const piece&) const;
    void tell_served(std::uint32_t index);
    void update();
    void finish(session_state, const caf::error&);
    void release_if_quiet();
    std::vector<session_wait> waits() const;

    tx_session_actor::pointer self_;
    dependencies with_;
    session_state state_ = session_state::init;
    caf::error error_;
    /// A copy into mapped memory of a peer that is in doubt, and why.
    caf::error undecided_;
    bool finished_ = false;
    bool released_ = false;
    /// Its sender died: messages are not routed here any more, and no actor waits for its
    /// retirement.
    bool orphaned_ = false;
    std::vector<piece> pieces_;
    /// Pieces that may have been served since the last update.
    std::vector<std::uint32_t> touched_;
    /// Receivers have come or are missing: any piece may be served when all are there.
    bool all_touched_ = true;
    std::optional<aux_record> aux_;
    bool aux_told_host_ = false;
    std::map<receiver_key, receiver> receivers_;
    /// The attempt of each receiver rank.
    std::map<rank_id, attempt> attempts_;
    /// Ranks that had asked for pieces not yet given when their link was lost, by process: they may
    /// ask again over a new one.
    std::map<incarnation, rank_id> left_;
    /// A transfer may still change its target.
    bool in_doubt_ = false;
    /// Ranks of the receiving instance that will ask, as the requests say.
    std::set<rank_id> expected_;
    std::uint32_t transfers_started_ = 0;
    bool transferring_ = false;
    bool ready_told_ = false;
};

} // namespace kvferry
