// SPDX-License-Identifier: Apache-2.0
// One attempt to receive one request on a generation rank: asks its writers, counts their reports
// by identity, ends once, and gives its pages back when the evidence is complete.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/generation/piece_checker.hpp"
#include "actors/generation/release_ledger.hpp"
#include "messages/limits.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/session_state.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

struct rx_session_state {
    static inline constexpr const char* name = "rx_session";

    struct dependencies {
        limits bounds;
        rank_info self;
        receiver_actor owner;
        observer_actor observer;
        rid request;
        kvferry::attempt attempt;
        aux_mode aux = aux_mode::none;
        /// "host:port" of the context instance's rank-info server.
        std::string context_endpoint = {};
        /// Null: digests are not asked for.
        std::shared_ptr<const piece_checker> checker = {};
        rank_counters_ptr counters = {};
        /// Null: nobody can shut an attempt out.
        fabric_actor fabric = {};
        /// Its answer to forbid_writes is proof (fabric_description).
        bool by_message = false;
        deciders_ptr deciders = {};
    };

    rx_session_state(rx_session_actor::pointer self, dependencies);

    rx_session_actor::behavior_type make_behavior();

    /// An exception in a handler ends this session.
    void handler_failed(const caf::error&);

private:
    /// One context rank of the cohorts.
    struct writer {
        writer_binding binding;
        peer_view_ptr peer;
        /// Held since it was asked: its link watches whether it is silent.
        std::shared_ptr<const void> wait;
        /// Its reports, by receive slice; one entry for each slice that it was asked for.
        std::map<slice_index, piece_ledger> reports;
        /// How many of them are not complete.
        std::size_t incomplete = 0;
        bool aux_reported = false;
        /// Its DP group does not serve this request; only its proof is still needed.
        bool dismissed = false;
        /// It has reported a failure of its own.
        bool failed = false;
        /// It has refused a request without ending its session for it, or has not heard of it.
        bool unaware = false;
        /// It has begun to write.
        bool started = false;
        /// Its rank has left, or cannot be reached: there is nobody to tell.
        bool left = false;
        /// The receiver tells it that the session has failed.
        bool told_by_owner = false;
        peer_summary summary;
    };

    /// One receive(slice) of the host.
    struct piece {
        kv_slice slice;
        bool told_host = false;
    };

    void on_receive(const receive_slice&);
    void on_bind(const bind_writers&);
    void on_started(const transfer_started&);
    void on_kv_result(const kv_agent_result&);
    void on_aux_result(const aux_agent_result&);
    void on_peer_cancel(const cancel_session&);
    void on_gone(const gone&);
    void on_refused(const refused&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    void on_renew(const renew_requests&);
    void on_host_cancel(const cancel_request&);
    void on_deadline(const deadline_tick&);
    void on_owner_ended(const owner_ended&);
    caf::result<session_status> on_status(const query_status&);

    /// The writer that a message comes from; null when it is outside the cohorts.
    writer* writer_of(incarnation);
    void publish(writer&);
    void request(writer&, slice_index);
    void send(const writer&, request_data);
    void ask_again(writer&);
    static bool has_begun(const writer&);
    bool may_map(const writer&) const;
    request_data request_for(const writer&, slice_index) const;
    void select(const writer&);
    void dismiss_others(const writer&);
    void dismiss(writer&, const caf::error&);
    void session_failed(const writer&, const caf::error&);
    void group_failed(const writer&, const caf::error&);
    bool cancel(const writer&, const caf::error&);
    bool selected() const;
    /// Why the reported piece has not arrived intact; empty when it has.
    caf::error failure_of(writer&, const kv_agent_result&);
    void settle(writer&);
    void writer_refuses(const message_header&, const wire_error& reason);
    bool served(const writer&, slice_index) const;
    bool resolved(const writer&) const;
    bool host_gave_all() const;
    void tell_served(std::uint32_t number);
    void update();
    void finish(session_state, const caf::error&);
    void forbid();
    void release_if_quiet();
    std::vector<session_wait> waits() const;
    caf::error explain(const caf::error&, const writer&) const;

    rx_session_actor::pointer self_;
    dependencies with_;
    session_state state_ = session_state::init;
    caf::error error_;
    bool finished_ = false;
    bool released_ = false;
    bool bound_ = false;
    bool transferring_ = false;
    /// The fabric lets puts of this attempt in.
    bool allowed_ = false;
    std::vector<piece> pieces_;
    /// Pieces whose end the host has been told.
    std::size_t pieces_told_ = 0;
    /// Pieces that may have been served since the last update.
    std::vector<std::uint32_t> touched_;
    /// Writers have become known, or are not needed any more: any piece may be served.
    bool all_touched_ = true;
    std::map<rank_id, writer> writers_;
    std::optional<aux_record> aux_;
    /// What no writer has, as bind_writers told it.
    std::vector<std::uint32_t> layers_skipped_;
    std::vector<std::string> roles_skipped_;
    release_ledger release_;
};

} // namespace kvferry
