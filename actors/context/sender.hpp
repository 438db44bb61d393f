// SPDX-License-Identifier: Apache-2.0
// The sender of a rank: owns its tx_sessions, and remembers requests that came before them.
#pragma once

#include "actors/context/downgrade_log.hpp"
#include "actors/context/route.hpp"
#include "actors/decisions/deciders.hpp"
#include "actors/shared/deadlines.hpp"
#include "actors/shared/peer_index.hpp"
#include "messages/limits.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/resident.hpp"
#include "transport/planner/plan.hpp"

#include <map>
#include <set>
#include <unordered_map>

namespace kvferry {

/// What every tx_session of a rank needs; immutable once the host's pools are registered.
struct sender_environment {
    placement home;
    limits bounds;
    route_choice route = route_choice::automatic;
    fabric_actor fabric;
    copy_actor copy;
    std::map<int, device_actor> devices;
    /// Keyed by device ordinal.
    std::map<int, staged_put_actor> staged;
    rank_info self;
    std::vector<memory_region> regions;
    /// Own pools as this process addresses them, in the order of the page table.
    std::vector<pool_base> source_pools;
    own_memory memory;
    /// Used on the rank's home only, where all its sessions live.
    std::shared_ptr<plan_cache> plans;
    rank_counters_ptr counters = {};
    deciders_ptr deciders = {};
    /// Used on the rank's home only.
    std::shared_ptr<downgrade_log> downgrades = std::make_shared<downgrade_log>();
};

struct sender_state {
    static inline constexpr const char* name = "sender";

    sender_state(sender_actor::pointer self, std::shared_ptr<const sender_environment> environment);
    ~sender_state();

    sender_actor::behavior_type make_behavior();

private:
    /// A request_data that waits for the host to open its session.
    struct early_request {
        request_data request;
        peer_view_ptr peer;
    };

    /// The first attempt of each receiver rank that asked for a rid.
    using attempts = std::unordered_map<incarnation, attempt>;

    struct session {
        tx_session_actor actor;
        observer_actor observer;
        std::chrono::milliseconds transfer_deadline;
        attempts asked = {};
        /// Attempts that a former session of this rid has answered: their cancels come late.
        attempts answered = {};
        /// Headers of the requests of those attempts, one per slice.
        std::vector<message_header> requests = {};
        /// Its host and its peers have been told its outcome.
        bool ended = false;
        /// Set when its actor died before it was retired. What it had started may still read and
        /// write, and this process cannot learn when that ends.
        caf::error died = {};
    };

    /// A rid that ended: why, if without success, and the attempts that were served or have been
    /// told. A receiver that comes with another attempt begins anew.
    struct ending {
        caf::error reason;
        attempts told;
    };

    caf::result<tx_opened> on_open(const open_tx&);
    void on_request(const request_data&);
    void on_cancel(const cancel_session&);
    void on_gone(const gone&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    void on_transferring(const session_transferring&);
    void on_ended(const session_ended&);
    void on_retired(const session_retired&);
    void on_down(const caf::down_msg&);
    void on_deadline(const deadline_tick&);
    caf::result<session_list> on_list(const list_sessions&);
    caf::result<void> on_drain(const drain_sessions&);
    caf::result<void> on_cancel_all(const cancel_request&);

    void pass_on(session&, request_data, peer_view_ptr);
    void session_died(rid, session&, const caf::error& why);
    static bool may_be_served(const session& dead, const message_header&);
    void answer_for_the_dead(const session&, const request_data&, const peer_view_ptr&);
    bool answered_by_memory(const request_data&, const peer_view_ptr&);
    void drop_lease(rid);
    void remember_withdrawal(const cancel_session&, const peer_view_ptr&);
    void forget_withdrawals(rid, std::optional<incarnation> of = {});
    template <class Unwanted>
    std::size_t forget_early(rid, std::vector<early_request>&, Unwanted);
    void answer_in_doubt(const peer_view_ptr& to, const message_header& of, const caf::error&);
    void answer_gone(const peer_view_ptr& to, const message_header& of, const caf::error& reason);
    caf::result<void> refuse_new(const caf::error& reason);
    void finish_if_empty();
    void rearm();

    sender_actor::pointer self_;
    std::shared_ptr<const sender_environment> environment_;
    std::unordered_map<rid, session> sessions_;
    std::unordered_map<caf::actor_id, rid> by_actor_;
    std::uint32_t sessions_opened_ = 0;
    /// Kept for one lease.
    std::unordered_map<rid, ending> ended_;
    /// Attempts with a transfer that may still change its target: `gone` would count as proof of
    /// the opposite.
    std::set<attempt> doubtful_;
    std::map<rid, std::vector<early_request>> early_;
    /// Counted over all rids.
    std::size_t early_requests_ = 0;
    /// What receivers have given up before the host opened the session; kept for one lease.
    std::map<rid, std::vector<unbind_receiver>> withdrawn_;
    std::size_t withdrawals_ = 0;
    /// Those requests by the ranks that sent them, and the sessions that were asked by a rank.
    peer_index<rid> early_of_peer_;
    peer_index<rid> asked_by_;
    std::unordered_map<incarnation, peer_view_ptr> peers_;
    deadline_queue<rid> session_deadlines_;
    /// Leases of early requests and of memories of ended sessions.
    deadline_queue<rid> leases_;
    tick_timer timer_;
    caf::error stopping_;
    /// The first copy into memory of a peer whose end nobody knows: until this process ends, the
    /// rank cannot say that nothing of it moves any more.
    caf::error undecided_;
    std::vector<caf::typed_response_promise<void>> stop_promises_;
};

} // namespace kvferry
