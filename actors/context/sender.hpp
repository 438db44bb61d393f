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
#include "transport/planner/plan/plan.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

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
    /// It hands on to replicas of the own instance what this rank has received.
    bool relays = false;
};

struct sender_state {
    static inline constexpr const char* name = "sender";

    sender_state(sender_actor::pointer self, std::shared_ptr<const sender_environment> environment);
    ~sender_state();

    sender_actor::behavior_type make_behavior();

private:
    caf::result<tx_opened> on_open(const open_tx&);
    void on_request(request_data&);
    void on_cancel(cancel_session&);
    void on_gone(gone&);
    void on_wanted(const session_wanted&);
    void on_extended(const session_extended&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    void on_transferring(const session_transferring&);
    void began(const session_transferring&);
    void on_ended(const session_ended&);
    void on_retired(session_retired&);
    void on_down(const caf::down_msg&);
    void on_deadline(const deadline_tick&);
    caf::result<session_list> on_list(const list_sessions&);
    caf::result<void> on_drain(const drain_sessions&);
    caf::result<void> on_cancel_all(const cancel_request&);

    void ask_sessions(sending_sessions::event&&, std::optional<time_point> at = {});
    void perform(sending_sessions::refuse&) {}
    void perform(sending_sessions::count&);
    void perform(sending_sessions::count_outcome&);
    void perform(sending_sessions::count_death&);
    void perform(sending_sessions::tell_deadline&);
    void perform(sending_sessions::announce_death&);
    void perform(sending_sessions::tell_released&);
    void perform(sending_sessions::forget&);
    void perform(sending_sessions::answer_stop&);

    void ask_memory(sending_memory::event&&);
    void perform(sending_memory::tell_peer&);
    void perform(sending_memory::keep_early&);
    void perform(sending_memory::give_up_early&);
    void perform(sending_memory::bind&);
    void perform(sending_memory::unbind&);
    void perform(sending_memory::count_ignored&);

    void ask_early(early_requests::event&&);
    void perform(early_requests::bind&);
    void perform(early_requests::unbind&);
    void perform(early_requests::answer_gone&);
    void perform(early_requests::refuse&);
    void perform(early_requests::count_ignored&);

    void pass_on(sending_sessions::session&, bind_receiver);
    void tell_peer(incarnation, wire_message);
    void tell_asked(incarnation by, const auto& message);
    session_list list_unopened(const list_sessions&) const;
    caf::result<void> refuse_new(const caf::error& reason);
    void rearm();

    void tell_relay(const auto& message);
    void end_relay(const auto& message);
    void answer_stops();

    sender_actor::pointer self_;
    std::shared_ptr<const sender_environment> environment_;
    /// What was asked before there is a session, the sessions, and what is left of them.
    early_requests early_;
    sending_sessions sessions_;
    sending_memory memory_;
    decider<early_requests> early_decider_;
    decider<sending_sessions> sessions_decider_;
    decider<sending_memory> memory_decider_;
    /// The sessions that were asked by a rank.
    peer_index<rid> asked_by_;
    std::unordered_map<incarnation, peer_view_ptr> peers_;
    std::uint32_t sessions_opened_ = 0;
    tick_timer timer_;
    std::vector<caf::typed_response_promise<void>> stop_promises_;
    /// Why memory is kept, once the table has answered a stop.
    std::optional<caf::error> stopped_;
    /// Serves what is for siblings (header.relay), as a sender of its own; null: the rank does not.
    sender_actor relay_;
    /// Stops that it has not answered.
    std::size_t relay_stopping_ = 0;
    caf::error kept_by_relay_;
};

} // namespace kvferry
