// SPDX-License-Identifier: Apache-2.0
// The receiver of a rank: owns its rx_sessions, finds their writers, and has links made to them.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/generation/piece_checker.hpp"
#include "actors/generation/transfer_parties.hpp"
#include "actors/shared/back_off.hpp"
#include "actors/shared/deadlines.hpp"
#include "actors/shared/peer_index.hpp"
#include "messages/limits.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/resident.hpp"

#include <deque>
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
        /// Seed that attempts are drawn with.
        std::uint64_t seed = 0;
        /// Null: digests are not asked for.
        std::shared_ptr<const piece_checker> checker = {};
        rank_counters_ptr counters = {};
        /// The fabric's answer to forbid_writes is proof (fabric_description).
        bool by_message = false;
        deciders_ptr deciders = {};
    };

    receiver_state(receiver_actor::pointer self, dependencies);
    ~receiver_state();

    receiver_actor::behavior_type make_behavior();

private:
    using ranks_ptr = std::shared_ptr<const std::vector<rank_info>>;
    using parties_ptr = std::shared_ptr<const transfer_parties>;

    struct session {
        rx_session_actor actor;
        open_rx opened;
        /// Counts the openings: sessions are bound in this order.
        std::uint64_t number = 0;
        /// What it was bound to, and the ranks of that instance; null before.
        parties_ptr parties = {};
        ranks_ptr context = {};
        std::span<const writer_binding> writers() const {
            return parties ? std::span{parties->writers} : std::span<const writer_binding>{};
        }
        /// Writers that it may have asked, and those of them that it may have told to write through
        /// mappings.
        std::set<incarnation> may_know = {};
        std::set<incarnation> may_map = {};
        /// The context's DP group that runs the request, once known.
        std::optional<std::uint32_t> runs_on = {};
        /// Its host and its writers have been told its outcome.
        bool ended = false;
        /// Set when its actor died before it was retired.
        caf::error died = {};
        /// After that: writers that may still write, because nothing proves otherwise.
        std::set<incarnation> in_doubt = {};
    };

    /// A lost link is dialled again at once; so is one that is lost before it is up, so often.
    static constexpr int redials_max = 3;

    /// What a context rank is told that has not been asked for anything: nothing is needed of it,
    /// or the session has failed. Nobody answers, so it is said again over a new link unless the
    /// former one was heard long after it.
    struct notice {
        wire_message message;
        std::optional<time_point> sent;
    };

    /// A context rank that sessions need.
    struct peer {
        rank_info info;
        peer_view_ptr view;
        std::deque<notice> notices;
        /// Why the link was lost in whose place this one is dialled, for the which time.
        caf::error lost_before;
        int redials = 0;
    };

    /// A context rank without a link that may still write into quarantined pages: it is dialled
    /// from time to time, because only its own answer can free them while it lives.
    struct debtor {
        rank_info info;
        back_off wait;
    };

    /// Context endpoint, context DP rank, aux, what may be missing.
    using parties_key =
        std::tuple<std::string, std::optional<std::uint32_t>, aux_mode, allow_missing>;

    caf::result<rx_opened> on_open(const open_rx&);
    void on_started(const transfer_started&);
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
    caf::result<void> on_drain(const drain_sessions&);
    caf::result<void> on_cancel_all(const cancel_request&);

    /// Passes a message to its session. Without a session, `answer` says whether the sender gets
    /// `gone`.
    template <class Message>
    void deliver(const Message&, bool answer);
    void session_died(attempt, session&, const caf::error& why);
    void cancel_for_dead(attempt, const session&, const writer_binding&);
    static cancel_session cancel_of(attempt, const session&, rank_id writer, const caf::error& why);
    void gone_for_dead(const message_header&);
    void stop_waiting(attempt, const session&);
    void forget(attempt);
    void release_if_proven(attempt);
    void forbid(attempt);
    void tell_ready(session&, const peer_view_ptr&);
    void tell_sessions(const process_gone&);
    void resolve(const std::string& endpoint);
    void fetch(const std::string& endpoint);
    void back_off_from(const std::string& endpoint);
    caf::error check_other_instance(const std::string& endpoint) const;
    std::vector<std::string> endpoints_of(incarnation) const;
    bool is_worth_a_dial(const peer_lost&, bool has_notices) const;
    void look_for_again(const rank_info& lost, const caf::error& why);
    void search_later(debtor&);
    void look_for_debtors(time_point now);
    void forget_heard(std::deque<notice>&) const;
    void send_notices(peer&);
    void instance_arrived(const std::string& endpoint, std::vector<rank_info> ranks);
    void instance_failed(const std::string& endpoint, const caf::error&);
    bool is_settled(const std::string& endpoint) const;
    std::vector<std::string> waiting_for(const std::string& endpoint) const;
    void bind_waiting(const std::string& endpoint);
    void bind(attempt, session&);
    void forget_parties(const std::string& endpoint);
    void doubt(const std::string& endpoint);
    peer& meet(const rank_info&);
    void connect(const rank_info& peer);
    /// Remembered until one of the two instances changes.
    const caf::expected<parties_ptr>& parties_for(const open_rx&);
    void ask_for_nothing(const session&, attempt, const rank_info& bystander);
    void withdraw(attempt, const session&, const caf::error& why,
                  const std::vector<rank_id>& untold);
    void withdraw_from(attempt, const session&, const rank_info&, const caf::error& why);
    void notify(const rank_info&, wire_message);
    void forget_notices(rid);
    std::chrono::milliseconds renewal_period() const;
    void rearm();
    void finish_if_empty();

    receiver_actor::pointer self_;
    dependencies with_;
    std::mt19937_64 random_;
    std::unordered_map<attempt, session> sessions_;
    std::unordered_map<caf::actor_id, attempt> by_actor_;
    std::uint64_t opened_ = 0;
    /// Sessions whose writers are not known yet, by context endpoint and in the order of opening.
    std::map<std::string, std::map<std::uint64_t, attempt>> unbound_;
    /// Bound sessions by their writers.
    peer_index<attempt> by_writer_;
    /// All ranks of an instance, by its info endpoint; dropped when one of them is lost.
    std::map<std::string, ranks_ptr> instances_;
    /// Since when they are known, and which of them are asked for again by the next session.
    std::map<std::string, time_point> learned_;
    std::set<std::string> doubted_;
    /// Endpoints that have not answered yet, or that will be asked when their back-off is over.
    std::set<std::string> asked_;
    /// Back-off of endpoints that did not answer or whose ranks could not be linked to.
    std::map<std::string, back_off> waits_;
    deadline_queue<std::string> retries_;
    std::map<parties_key, caf::expected<parties_ptr>> parties_;
    std::unordered_map<incarnation, peer> peers_;
    std::unordered_map<incarnation, debtor> debtors_;
    deadline_queue<incarnation> searches_;
    deadline_queue<attempt> deadlines_;
    /// When each session renews its requests, before writers that wait for their host forget them.
    deadline_queue<attempt> renewals_;
    tick_timer timer_;
    caf::error stopping_;
    std::vector<caf::typed_response_promise<void>> stop_promises_;
};

} // namespace kvferry
