// SPDX-License-Identifier: Apache-2.0
// The receiver of a rank: owns its rx_sessions, finds out who writes, and has links made to them.
#pragma once

#include "actors/generation/piece_checker.hpp"
#include "actors/generation/transfer_parties.hpp"
#include "actors/shared/back_off.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/local_messages.hpp"
#include "messages/trace/rank_counters.hpp"
#include "transport/loop/resident.hpp"

#include <map>
#include <optional>
#include <random>
#include <set>
#include <tuple>
#include <unordered_map>

namespace kvferry {

struct receiver_state {
    static inline constexpr const char* name = "receiver";

    struct dependencies {
        placement home;
        limits bounds;
        rank_info self;
        /// "host:port" of the own instance's rank-info server.
        std::string own_endpoint;
        info_link_actor info_link;
        fabric_actor fabric;
        transfer_worker_actor worker;
        /// Seed of the attempts.
        std::uint64_t seed = 0;
        /// Null: digests are not asked for.
        std::shared_ptr<const piece_checker> checker = {};
        rank_counters_ptr counters = {};
    };

    receiver_state(receiver_actor::pointer self, dependencies);

    receiver_actor::behavior_type make_behavior();

private:
    struct session {
        rx_session_actor actor;
        open_rx opened;
        /// Whom it was bound to.
        std::vector<writer_binding> writers = {};
        /// Its host and its writers have heard of its outcome.
        bool ended = false;
        /// Why its actor is no more, though it was not retired.
        caf::error died = {};
        /// Then: writers that may still write, as far as anybody knows.
        std::set<incarnation> in_doubt = {};
    };

    /// A context rank that sessions need.
    struct peer {
        rank_info info;
        peer_view_ptr view;
        /// For bystanders, until the link is up.
        std::vector<request_data> waiting;
    };

    /// Context endpoint and DP rank, aux.
    using parties_key = std::tuple<std::string, std::optional<std::uint32_t>, aux_mode>;

    caf::result<rx_opened> on_open(const open_rx&);
    void on_kv_result(const kv_agent_result&);
    void on_aux_result(const aux_agent_result&);
    void on_cancel(const cancel_session&);
    void on_gone(const gone&);
    void on_refused(const refused&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    void on_transferring(const session_transferring&);
    void on_ended(const session_ended&);
    void on_retired(const session_retired&);
    void on_down(const caf::down_msg&);
    void on_deadline(const deadline_tick&);
    caf::result<session_list> on_list(const list_sessions&);
    caf::result<void> on_cancel_all(const cancel_request&);

    /// To its session; a report that needs an answer gets `gone` when there is none.
    template <class Message>
    void deliver(const Message&, bool answer);
    void session_died(attempt, session&, const caf::error& why);
    void release_if_proven(attempt);
    void tell_sessions(const process_gone&);
    void resolve(const std::string& endpoint);
    void fetch(const std::string& endpoint);
    void back_off_from(const std::string& endpoint);
    std::vector<std::string> endpoints_of(incarnation) const;
    void instance_arrived(const std::string& endpoint, std::vector<rank_info> ranks);
    void instance_failed(const std::string& endpoint, const caf::error&);
    void bind_all();
    peer& meet(const rank_info&);
    void connect(const rank_info& peer);
    /// Remembered until one of the two instances changes.
    const caf::expected<transfer_parties>& parties_for(const open_rx&);
    void ask_for_nothing(const session&, attempt, const rank_info& bystander);
    std::chrono::milliseconds renewal_period() const;
    void rearm();
    void finish_if_empty();

    receiver_actor::pointer self_;
    dependencies with_;
    std::mt19937_64 random_;
    std::unordered_map<attempt, session> sessions_;
    std::unordered_map<caf::actor_id, attempt> by_actor_;
    /// Sessions whose writers are not known yet.
    std::vector<attempt> unbound_;
    /// All ranks of an instance, by its info endpoint; dropped when one of them is lost.
    std::map<std::string, std::vector<rank_info>> instances_;
    /// Endpoints that have been asked and have not answered, or will be when their wait is over.
    std::set<std::string> asked_;
    /// Endpoints that did not answer, or ranks of which could not be linked to.
    std::map<std::string, back_off> waits_;
    deadline_queue<std::string> retries_;
    std::map<parties_key, caf::expected<transfer_parties>> parties_;
    std::unordered_map<incarnation, peer> peers_;
    deadline_queue<attempt> deadlines_;
    /// When a session's requests would be forgotten by writers that wait for their host.
    deadline_queue<attempt> renewals_;
    tick_timer timer_;
    caf::error stopping_;
    std::vector<caf::typed_response_promise<void>> stop_promises_;
};

} // namespace kvferry
