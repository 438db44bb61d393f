// SPDX-License-Identifier: Apache-2.0
// Root of a rank: publishes it, owns its links, sender and receiver, and stops them in order.
#pragma once

#include "actors/context/route.hpp"
#include "actors/decisions/deciders.hpp"
#include "actors/decisions/links/peer_table.hpp"
#include "actors/decisions/rank_memory.hpp"
#include "actors/decisions/stopping.hpp"
#include "actors/rank/early_frames.hpp"
#include "actors/shared/back_off.hpp"
#include "actors/shared/session_openers.hpp"
#include "actors/shared/small_random.hpp"
#include "messages/limits.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/local/worker.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/resident.hpp"

#include <map>
#include <optional>
#include <vector>

namespace kvferry {

/// Who a rank is; fixed for the life of its worker.
struct rank_identity {
    std::string instance;
    std::uint32_t world_size = 1;
    parallelism layout;
    kvferry::incarnation incarnation;
    link_token token;
    std::string machine;
    std::string host_link_name;
    std::string fingerprint = {};
};

struct transfer_worker_state {
    static inline constexpr const char* name = "transfer_worker";

    struct dependencies {
        placement home;
        limits bounds;
        route_choice route = route_choice::automatic;
        rank_identity identity;
        /// Seed that attempts are drawn with.
        std::uint64_t seed = 0;
        /// Shared with the rank's fabric.
        rank_counters_ptr counters = std::make_shared<rank_counters>();
        deciders_ptr deciders = {};
        /// Kept up to date here.
        session_openers_ptr openers = std::make_shared<session_openers>();
    };

    transfer_worker_state(transfer_worker_actor::pointer self, dependencies);
    ~transfer_worker_state();

    transfer_worker_actor::behavior_type make_behavior();

private:
    void on_adopt(const adopt_io&);
    void on_adopt_devices(const adopt_devices&);
    void on_device_lost(const device_lost&);
    caf::result<pools_registered> on_register(const register_pools&);
    caf::result<tx_opened> on_open_tx(open_tx&);
    caf::result<rx_opened> on_open_rx(open_rx&);
    void on_add_instance(const add_instance&);
    caf::result<peer_connected> on_connect(const connect_peer&);
    caf::result<void> on_await_peer(const await_peer&);
    void on_frame(const frame_arrived&);
    void on_endpoint_failed(const endpoint_failed&);
    void on_peer_ready(const peer_ready&);
    void on_peer_lost(const peer_lost&);
    void on_process_gone(const process_gone&);
    caf::result<rank_info_reply> on_query_info(const query_rank_info&);
    caf::result<session_list> on_list(const list_sessions&);
    caf::result<worker_statistics> on_statistics(const query_statistics&);
    void on_deadline(const deadline_tick&);
    caf::result<void> on_drain(const drain_worker&);
    caf::result<worker_stopped> on_stop(const stop_worker&);

    void decide_memory(rank_memory::event);
    void perform(const rank_memory::pin&);
    void perform(const rank_memory::export_from&);
    void perform(const rank_memory::register_here&);
    void perform(const rank_memory::ready&) { publish(); }
    void perform(const rank_memory::give_up& x) { published(x.why); }
    void publish();
    void introduce(time_point until, back_off);
    const std::string& known_as() const;
    void published(const caf::error&);
    caf::error not_ready() const;
    caf::error no_sessions_yet() const;
    void show_openers();

    void decide_peers(peer_table::event);
    void perform(peer_table::use_link&) {}
    void perform(peer_table::answer_awaiting&);
    void perform(peer_table::make_link&);
    void perform(peer_table::show_introduction&);
    void perform(peer_table::ignore&);
    void perform(peer_table::tell_sender_of_loss&);
    void perform(peer_table::bury_link&);
    void introduced(peer_table::event);
    void close_links(const close_link&);

    void decide_stop(stopping::event);
    void perform(stopping::refuse&) {}
    void perform(stopping::arm&);
    void perform(stopping::end_registrar&);
    void perform(stopping::cancel_sessions&);
    void perform(stopping::close_links&);
    void perform(stopping::stop_io&);
    void perform(stopping::list_sessions&);
    void perform(stopping::answer&);
    void perform(stopping::fail_answer&);
    void perform(stopping::leave&);

    void on_down(const caf::down_msg&);
    void table_died(const char* which, const caf::error& why);
    void replaced(const caf::error& why);
    void fail_rank(const caf::error& why);
    void io_ended();

    transfer_worker_actor::pointer self_;
    dependencies with_;
    /// Spreads the tries of ranks that wait for rank 0.
    small_random random_;
    adopt_io io_;
    std::map<int, device_actor> devices_;
    std::map<int, host_region> staging_;
    std::map<int, std::span<std::byte>> landing_;
    /// Why no session can be served any more: a device is lost, or the sender or receiver died.
    caf::error lost_;
    rank_info info_;
    /// Of the pools that are published.
    rank_memory memory_;
    caf::typed_response_promise<pools_registered> registration_;
    sender_actor sender_;
    receiver_actor receiver_;
    registrar_actor registrar_;
    peer_table peers_;
    decider<peer_table> peers_decider_;
    early_frames early_;
    /// All links that have not ended.
    std::map<dial_id, peer_link_actor> links_;
    std::map<caf::actor_id, dial_id> dial_of_;
    /// The rank stops, and waits for its last link to end.
    bool links_end_ = false;
    /// Who waits for a link to be ready.
    std::multimap<incarnation, caf::typed_response_promise<void>> awaited_;
    rank_counters_ptr counters_;
    stopping stopping_;
    decider<stopping> stopping_decider_;
    caf::typed_response_promise<worker_stopped> stopped_;
    std::size_t io_running_ = 0;
};

} // namespace kvferry
