// SPDX-License-Identifier: Apache-2.0
// The fabric of a simulated rank: keeps the promises of ucx_io over the simulated network.
//
// As over TCP, the target itself writes arriving bytes when it runs. It may do so after their
// writer has given up or died, until it has fenced that writer.
#pragma once

#include "messages/local/fabric.hpp"
#include "tests/harness/sim_network.hpp"
#include "transport/fabric/inbound_writes.hpp"
#include "transport/loop/resident.hpp"
#include "transport/planner/plan_expand.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <deque>
#include <map>
#include <set>

namespace kvferry::harness {

using sim_fabric_actor = fabric_actor::extend<
    // Something waits at the doorbell, or a put continues.
    caf::result<void>(deadline_tick)>;

class sim_io_state : public fabric_port {
public:
    static inline constexpr const char* name = "sim_io";

    struct dependencies {
        sim_network* network = nullptr;
        doorbell* bell = nullptr;
        incarnation self;
        /// Receives frames of peers without an open endpoint.
        frame_sink_actor default_sink;
        std::uint64_t piece_bytes_max = 64;
        /// How many registrations still fail.
        std::shared_ptr<int> failing_registrations;
        /// Called with every address that a put reads, at the time of the read.
        std::function<void(std::uint64_t)> on_read;
        std::uint64_t seed = 0;
    };

    sim_io_state(sim_fabric_actor::pointer self, dependencies);

    sim_fabric_actor::behavior_type make_behavior();
    void handler_failed(const caf::error&) {}

    void arrived(wire_item) override;
    void connection_lost(incarnation peer, std::uint64_t last) override;
    bool has_endpoint_to(incarnation peer) const override;

private:
    using answer = caf::typed_response_promise<void>;

    struct region_key {
        access_key_head head;
        bool usable = false;
    };
    struct endpoint {
        incarnation peer;
        std::vector<memory_region> regions;
        std::vector<region_key> keys;
        frame_sink_actor owner;
        std::uint64_t connection = 0;
        std::set<std::uint64_t> puts;
        bool closing = false;
        std::vector<answer> closed;
    };
    struct put {
        transfer_id id;
        endpoint_id over;
        copy_job job;
        completion_actor reply_to;
        plan_cursor cursor;
        std::uint64_t pieces = 0;
        bool all_posted = false;
        caf::error failure;
        time_point began;
        kvferry::attempt attempt;
    };

    caf::result<endpoint_opened> on_open_endpoint(const open_endpoint&);
    void on_peer_memory_mapped(const peer_memory_mapped&) {} // no devices here
    void on_peer_regions_offered(const peer_regions_offered&);
    static void learn_regions(endpoint&, const std::vector<memory_region>&);
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
    void on_tick(const deadline_tick&);

    caf::error bind_target(const endpoint&, const copy_job&) const;
    void post_later(std::uint64_t number);
    void post_piece(std::uint64_t number);
    void post_end(std::uint64_t number, put&);
    void finish_put(std::uint64_t number, agent_result, caf::error);
    void fail_endpoint(endpoint_id, caf::error);
    void finish_close(endpoint_id);
    void finish_stop();

    sim_fabric_actor::pointer self_;
    dependencies with_;
    random_source random_;
    inbound_writes inbound_;
    std::map<endpoint_id, endpoint> endpoints_;
    std::map<std::uint64_t, put> puts_;
    std::deque<std::uint64_t> due_;
    bool stopping_ = false;
    std::vector<answer> stopped_;
    std::uint64_t last_endpoint_ = 0;
    std::uint64_t last_region_ = 0;
    std::uint64_t last_put_ = 0;
};

/// The fabric address of a simulated process.
byte_buffer sim_address(incarnation);

} // namespace kvferry::harness
