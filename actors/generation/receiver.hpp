// SPDX-License-Identifier: Apache-2.0
// The receiver of a rank: owns its rx_sessions and carries the values that decide about them: which
// sessions there are, what is known of instances, which links are needed.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/generation/parties_cache.hpp"
#include "actors/generation/piece_checker.hpp"
#include "actors/generation/rx_session.hpp"
#include "actors/shared/deadlines.hpp"
#include "actors/shared/small_random.hpp"
#include "messages/limits.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/resident.hpp"

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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
        /// Hands on to siblings what sessions here receive; null: none does.
        sender_actor sender = {};
    };

    receiver_state(receiver_actor::pointer self, dependencies);
    ~receiver_state();

    receiver_actor::behavior_type make_behavior();

private:
    using session = receiving_sessions::session;
    struct carrier_here;

    caf::result<rx_opened> on_open(open_rx&);
    template <class Message>
    void on_message(Message&);
    void on_gone(gone&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    void on_extended(const session_extended&);
    void on_add_instance(const add_instance&);
    void on_transferring(const session_transferring&);
    void tell_bystanders(const session_transferring&);
    void on_ended(const session_ended&);
    void on_retired(const session_retired&);
    void on_down(const caf::down_msg&);
    void on_deadline(const deadline_tick&);
    caf::result<session_list> on_list(const list_sessions&);
    caf::result<void> on_drain(const drain_sessions&);
    caf::result<void> on_cancel_all(const cancel_request&);
    caf::result<void> stop(const caf::error& reason);

    /// Lets a value decide and does what it says.
    template <class Value>
    void apply(const decider<Value>&, Value&, typename Value::event&&);
    // The same, and after the last of those that follow from each other the timer is set anew.
    void carry(receiving_sessions::event&&);
    void carry(known_instances::event&&);
    void carry(receiving_links::event&&);
    void carry_dead(attempt, receiving_after_death::event);

    void perform(receiving_sessions::refuse&) {} // on_open answers
    void perform(receiving_sessions::count&);
    void perform(receiving_sessions::count_outcome&);
    void perform(receiving_sessions::count_death&);
    void perform(receiving_sessions::tell_deadline&);
    void perform(receiving_sessions::announce_death&);
    void perform(receiving_sessions::tell_released&);
    void perform(receiving_sessions::forget&);
    void perform(receiving_sessions::answer_stop&);
    void perform(known_instances::fetch&);
    void perform(known_instances::bind_session&);
    void perform(known_instances::fail_session&);
    void perform(known_instances::withdraw&);
    void perform(receiving_links::dial&);
    void perform(receiving_links::send&);
    void perform(receiving_links::tell_ready&);
    void perform(receiving_links::is_ready&) {} // perform(bind_session) passes it on
    void perform(receiving_links::tell_lost&);
    void perform(receiving_links::link_over&);
    void perform_dead(session&, attempt, receiving_after_death::cancel_writer&);
    void perform_dead(session&, attempt, receiving_after_death::withdraw&);
    void perform_dead(session&, attempt, forbid_writes&);
    void perform_dead(session&, attempt, receiving_after_death::release&);

    /// No actor waits for it any more: it needs no writers and no renewal.
    void stop_waiting(attempt);
    void withdraw(attempt, const session&, const caf::error& why,
                  const std::vector<rank_id>& untold);
    void notify(const rank_info& to, wire_message);
    void send_to(incarnation, wire_message);
    caf::error check_other_instance(const std::string& endpoint, instance_answer&) const;
    void bind_links(attempt, session&, bind_writers&);
    time_point now() const;
    std::chrono::milliseconds renewal_period() const;
    void watch(attempt);
    bool is_watched(attempt) const;
    void look(attempt, session&);
    void rearm();
    void give_half_to_relay(attempt);

    receiver_actor::pointer self_;
    const dependencies with_;
    small_random random_;
    receiving_sessions sessions_;
    known_instances instances_;
    receiving_links links_;
    decider<receiving_sessions> sessions_decider_;
    decider<known_instances> instances_decider_;
    decider<receiving_links> links_decider_;
    decider<receiving_after_death> after_death_decider_;
    parties_cache parties_;
    /// As errors name this rank.
    std::string name_;
    std::shared_ptr<const rx_environment> sessions_environment_;
    /// When to look whether a session still waits; each is looked at in the same interval, so the
    /// next is in front. Those that have ended stay until it is their turn.
    std::deque<std::pair<time_point, attempt>> looks_;
    /// When sessions have waited long enough for a sibling, or for siblings that have not asked.
    deadline_queue<attempt> relays_;
    tick_timer timer_;
    /// Decisions that others follow from.
    int carrying_ = 0;
    std::vector<caf::typed_response_promise<void>> stop_promises_;
};

} // namespace kvferry
