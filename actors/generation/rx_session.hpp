// SPDX-License-Identifier: Apache-2.0
// Carries one attempt to receive a request: messages become events of `receiving`, which decides,
// and its effects become messages.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/decisions/receiving/receiving.hpp"
#include "actors/generation/piece_checker.hpp"
#include "actors/shared/owner_news.hpp"
#include "actors/shared/session_meter.hpp"
#include "messages/limits.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/loop/resident.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

namespace kvferry {

/// What every rx_session of a rank needs.
struct rx_environment {
    placement home = {};
    std::size_t aux_bytes_max = limits{}.aux_bytes_max;
    /// This rank, for texts.
    std::string self;
    /// Null: digests are not asked for.
    std::shared_ptr<const piece_checker> checker = {};
    rank_counters_ptr counters = {};
    /// Null: nobody can shut an attempt out.
    fabric_actor fabric = {};
    /// Its answer to forbid_writes is proof (fabric_description).
    bool by_message = false;
    deciders_ptr deciders = {};
    /// Of this rank, to say how much is on loan; null: nobody asks.
    std::shared_ptr<const page_table> pages = {};
    /// Hands on to siblings; null: it never does.
    sender_actor sender = {};
};

struct rx_session_state {
    static inline constexpr const char* name = "rx_session";

    struct dependencies {
        std::shared_ptr<const rx_environment> environment;
        receiver_actor owner;
        observer_actor observer;
        rid request;
        kvferry::attempt attempt;
        aux_mode aux = aux_mode::none;
        /// "host:port" of the context instance's rank-info server.
        std::string context_endpoint = {};
        /// The observer hears which layers have arrived.
        bool tell_layers = false;
        std::optional<trace_parent> traceparent = {};
        std::chrono::milliseconds deadline{0};
        std::chrono::milliseconds transfer_deadline{0};
        priority urgency = priority::normal;
        /// Its owner hears of its death, unless it has been retired; the observer if it wants to.
        bool tell_owner_of_death = false;
        bool tell_observer_of_death = false;
    };

    rx_session_state(rx_session_actor::pointer self, dependencies);
    ~rx_session_state();

    rx_session_actor::behavior_type make_behavior();

    /// An exception in a handler ends this session.
    void handler_failed(const caf::error&);

private:
    /// A writer with a link.
    struct linked_writer {
        peer_view_ptr peer;
        /// Held since it was asked: its link watches whether it is silent.
        std::shared_ptr<const void> wait;
    };

    receiving::facts facts_of_attempt();
    const rx_environment& environment() const { return *with_.environment; }
    caf::error check(const kv_slice& asked, const std::vector<view_place>& views,
                     const kv_agent_result&);
    bool read_first(const kv_slice& asked, const std::vector<view_place>& views,
                    const kv_agent_result&);
    void forget_unread(incarnation writer);

    /// Messages that are events as they are.
    template <class Message>
    void on(Message& message) {
        carry(std::move(message));
    }
    void on_receive(receive_slice&);
    void on_bind(bind_writers&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(peer_lost&);
    void on_process_gone(const process_gone&);
    void on_done(const transfer_done&);
    caf::result<session_status> on_status(const query_status&);
    caf::result<slots_on_loan> on_slots(const query_slots&);

    void meet(const peer_view_ptr&);
    /// Lets the value decide, and does what it says.
    void carry(receiving::event&&);
    void tell_owner();
    void perform(receiving::ask_writer&);
    void perform(receiving::cancel_writer&);
    void perform(receiving::ignore_message&);
    void perform(allow_writes&);
    void perform(forbid_writes&);
    void perform(receiving::keep_writer&);
    void perform(receiving::open_relay&);
    void perform(receiving::hand_on&);
    void perform(receiving::hand_on_aux&);
    void perform(receiving::extend_relay&);
    void perform(receiving::end_relay&);
    void perform(receiving::relay_given_up&);
    void perform(session_extended&);
    void perform(layers_arrived&);
    void perform(piece_finished&);
    void perform(session_finished&);
    void perform(session_released&);
    void perform(session_transferring&);
    void perform(session_ended&);
    void perform(session_retired&);

    rx_session_actor::pointer self_;
    const dependencies with_;
    recycled_map<incarnation, linked_writer> links_;
    /// Reports whose bytes a device reads, until it has.
    std::unordered_map<transfer_id, kv_agent_result> unread_;
    /// What it has read, while its report is looked at.
    const transfer_done* read_ = nullptr;
    relay_actor relay_;
    session_meter meter_;
    receiving attempt_;
    decider<receiving> decider_;
    owner_news owner_news_;
    bool retired_told_ = false;
};

} // namespace kvferry
