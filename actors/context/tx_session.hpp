// SPDX-License-Identifier: Apache-2.0
// One transfer on a context rank: carries the decisions of `sending`, plans its pieces and has them
// moved.
#pragma once

#include "actors/context/sender.hpp"
#include "actors/decisions/sending/sending.hpp"
#include "actors/shared/owner_news.hpp"
#include "actors/shared/session_meter.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/time.hpp"
#include "transport/planner/plan/slice_coverage.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
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
        std::optional<trace_parent> traceparent = {};
        /// open_tx::relay_of.
        std::uint64_t relay_of = 0;
        /// open_tx::relay_views.
        std::vector<view_place> relay_views = {};
        /// Of the host; missing: as each receiver asks.
        std::optional<priority> urgency = {};
        /// open_tx::tell_ready.
        bool tell_ready = true;
        /// Its owner hears of its death, unless it has been retired; the observer if it wants to.
        bool tell_owner_of_death = false;
        bool tell_observer_of_death = false;
    };

    tx_session_state(tx_session_actor::pointer self, dependencies);
    ~tx_session_state();

    tx_session_actor::behavior_type make_behavior();

    /// An exception in a handler ends this session.
    void handler_failed(const caf::error&);

private:
    using amount = sending_events::piece_planned::amount;

    /// A piece that has a route: ready to go, or on its way.
    struct flight {
        sending_effects::plan_piece piece;
        std::shared_ptr<const copy_plan> plan;
        /// Who copies; null when the fabric does, or when it is staged.
        copy_actor copier = {};
        staged_put_actor staged = {};
        /// Until it is launched.
        copy_job job;
        route way = route::none;
        /// When the executor was told.
        time_point launched = {};
        /// Its report travels with the bytes, and says this.
        std::optional<amount> reports_along = {};
        /// Adds up afterwards what was sent, when neither its executor nor the host can.
        copy_actor reader = {};
        /// It has been sent, and is being added up.
        std::optional<transfer_done> sent = {};
    };

    /// A message that is an event as it stands.
    template <class Message>
    void on(Message& message) {
        decide_and_perform(std::move(message));
    }
    void join(const std::optional<trace_parent>&);
    void on_send(send_slice&);
    void on_bind(bind_receiver&);
    caf::expected<std::shared_ptr<const pair_layout>> check(const bind_receiver&);
    /// The two ends of what a request is about.
    struct ends {
        rank_info writer;
        rank_info receiver;
    };
    struct ends_view {
        const rank_info& writer;
        const rank_info& receiver;
    };
    ends_view ends_of(const rank_info& receiver, const std::vector<view_place>& views);
    void on_done(const transfer_done&);
    void on_end(const flight&, const transfer_done&);
    void on_peer_ready(const peer_ready&);
    caf::result<session_status> on_status(const query_status&);
    caf::result<slots_on_loan> on_slots(const query_slots&);

    void decide_and_perform(sending::event&&);

    /// The answer to what is done on the spot.
    using answer = std::optional<sending::event>;
    answer perform(sending_effects::tell_peer&);
    answer perform(sending_effects::tell_host&);
    answer perform(sending_effects::tell_owner&);
    answer perform(sending_effects::plan_piece&);
    answer perform(sending_effects::launch_piece&);
    answer perform(sending_effects::cancel_piece&);
    answer perform(sending_effects::count_ignored&);
    answer perform(sending_effects::quit&);

    sending::event find_route(sending_effects::plan_piece&, std::shared_ptr<const copy_plan>,
                              time_point taken);
    sending_events::piece_ended served(const sending_effects::plan_piece&, const copy_plan&,
                                       const std::optional<plan_digest>& made = {});
    flow flow_of(const request_data&) const;
    static sending_events::piece_ended served(const sending_effects::plan_piece&, const amount&);
    bool makes_digests(const request_data&) const;
    std::optional<piece_digest> digest_of(const sending_effects::plan_piece&, const copy_plan&,
                                          const std::optional<plan_digest>& made = {});
    std::uint32_t layers_written(const sending_effects::plan_piece&);
    byte_buffer frame_of(kv_agent_result, const peer_view& peer);
    static sending_events::piece_ended not_served(const sending_effects::plan_piece&, agent_result,
                                                  const caf::error& why);
    bool add_up(flight&, const transfer_done&);
    static std::string where(const damaged_bytes&, const sending_effects::plan_piece&);
    caf::error in_context(const caf::error&, const rank_info& peer) const;

    tx_session_actor::pointer self_;
    dependencies with_;
    session_meter meter_;
    sending value_;
    decider<sending> decider_;
    owner_news owner_news_;
    std::map<transfer_id, flight> flights_;
    /// What the host's slices speak for.
    slice_coverage sent_;
    /// What has been written, for receivers that want to hear of whole layers.
    struct written {
        slice_coverage slices;
        std::uint32_t layers_end = 0;
    };
    std::map<receiver_key, written> written_;
    /// For replicas, and for receivers that want some of their views alone.
    std::map<std::pair<incarnation, std::vector<view_place>>, ends> ends_;
    std::uint32_t transfers_ = 0;
    /// The host or the first request that has one named the engine's trace.
    bool joined_trace_ = false;
    bool retired_told_ = false;
};

} // namespace kvferry
