// SPDX-License-Identifier: Apache-2.0
// The fabric's twin: the same guarantees inside one process, without UCX, on any scheduler.
//
// Frames are messages. The twin that owns the target memory carries out a put, piece by piece, as
// UCX carries out puts over TCP while the target makes progress. Bytes may land after their writer
// has given up, and a test can make that happen in any order.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/header.hpp"
#include "transport/fabric/inbound_staging.hpp"
#include "transport/fabric/put_credit.hpp"
#include "transport/fabric/staging_service.hpp"
#include "transport/loop/resident.hpp"
#include "transport/loopback/loopback_network.hpp"
#include "transport/planner/plan_expand.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <deque>
#include <map>
#include <set>
#include <vector>

namespace kvferry {

class loopback_io_state {
public:
    static inline constexpr const char* name = "loopback_io";

    struct dependencies {
        std::shared_ptr<loopback_network> network;
        incarnation self;
        /// Receives frames of peers to which no endpoint is open; may be null.
        frame_sink_actor default_sink;
        limits bounds;
    };

    loopback_io_state(loopback_actor::pointer self, dependencies);
    ~loopback_io_state();

    loopback_actor::behavior_type make_behavior();
    void handler_failed(const caf::error&);

    /// Frames that could not be decoded.
    std::uint64_t malformed_frames() const { return malformed_frames_; }

private:
    using answer = caf::typed_response_promise<void>;

    struct region {
        std::byte* base = nullptr;
        std::uint64_t bytes = 0;
        /// The region is on a device: written through its staging memory.
        bool staged = false;
        bool by_attempt = false;
    };
    struct endpoint {
        incarnation peer;
        loopback_actor twin;
        std::vector<memory_region> regions;
        frame_sink_actor owner;
        std::set<transfer_id> transfers;
        /// Memory of the peer that this process has mapped.
        lent_regions lent = {};
        bool closing = false;
        std::vector<answer> closed;
    };
    /// A put that another twin carries out for this one.
    struct transfer {
        endpoint_id over;
        completion_actor reply_to;
        time_point began;
        bool cancelled = false;
    };
    /// A put that this twin carries out for another one.
    struct write {
        caf::actor_addr from;
        transfer_id id;
        copy_job job;
        completion_actor reply_to;
        time_point began;
        plan_cursor cursor;
        std::uint64_t number = 0;
        caf::error stopped_by;
        put_credit credit = {};
        kvferry::attempt attempt = {};
        /// Waits for credit, or for a device.
        bool waiting = false;
        bool in_doubt = false;
    };
    struct drain {
        std::uint64_t up_to = 0;
        answer done;
    };

    caf::result<endpoint_opened> on_open_endpoint(const open_endpoint&);
    void on_peer_memory_mapped(const peer_memory_mapped&);
    void on_peer_regions_offered(const peer_regions_offered&);
    void on_send_frame(send_frame&);
    void on_start_put(start_put&);
    void on_cancel_transfer(const cancel_transfer&);
    caf::result<void> on_close_endpoint(const close_endpoint&);
    caf::result<region_registered> on_register_region(const register_region&);
    caf::result<void> on_unregister_region(const unregister_region&);
    caf::result<fabric_description> on_describe_fabric(const describe_fabric&);
    caf::result<void> on_drain_fabric(const drain_fabric&);
    void on_allow_writes(const allow_writes&);
    caf::result<void> on_forbid_writes(const forbid_writes&);
    caf::result<void> on_forbid_all(const forbid_all_writes&);
    caf::result<void> on_stop_io(const stop_io&);
    void on_transfer_done(const transfer_done&);
    void on_frame_arrived(frame_arrived&);
    void on_start_copy(const start_copy&);
    void on_tick(const deadline_tick&);
    void on_break(const endpoint_failed&);
    void on_twin_down(const caf::actor_addr&);

    caf::error bind_target(const endpoint&, copy_job&) const;
    void go_on();
    bool write_piece(write&);
    void stop_write(write&, caf::error);
    void serve_staging();
    void on_scattered(const transfer_done&);
    write* find_write(std::uint64_t number);
    const lent_regions* lent_by(put_key);
    void finish_write(const write&);
    void finish_transfer(transfer_id, agent_result, std::uint64_t bytes, caf::error);
    endpoint forget_endpoint(endpoint_id);
    void fail_endpoint(endpoint_id, caf::error reason);
    void finish_close(endpoint_id);
    void finish_drains();
    void finish_stop();

    loopback_actor::pointer self_;
    dependencies with_;
    byte_buffer address_;
    std::map<endpoint_id, endpoint> endpoints_;
    std::map<incarnation, std::set<endpoint_id>> of_peer_;
    std::map<transfer_id, transfer> transfers_;
    std::map<region_id, region> regions_;
    std::deque<write> writes_;
    bool ticking_ = false;
    inbound_staging staging_;
    staging_service<std::remove_pointer_t<loopback_actor::pointer>> service_;
    /// Writes whose bytes a device may still be copying.
    std::map<std::uint64_t, attempt> in_doubt_;
    /// Unregistered regions, answered when the last scatter into them has ended.
    std::vector<std::pair<region_id, answer>> forbidden_;
    std::deque<drain> drains_;
    /// Attempts that puts may write for, and those that are over, answered when their last write
    /// has ended.
    std::set<attempt> attempts_;
    std::vector<std::pair<attempt, answer>> over_;
    std::vector<answer> all_over_;
    bool shut_ = false;
    /// Incarnations that were drained: their processes have ended.
    std::set<incarnation> drained_;
    bool stopping_ = false;
    std::vector<answer> stopped_;
    std::uint64_t last_endpoint_ = 0;
    std::uint64_t last_region_ = 0;
    std::uint64_t last_write_ = 0;
    std::uint64_t malformed_frames_ = 0;
};

/// Spawns a twin on the loop given by the placement, or on CAF's scheduler.
caf::expected<loopback_actor> spawn_loopback_io(caf::actor_system&, placement,
                                                loopback_io_state::dependencies);

} // namespace kvferry
