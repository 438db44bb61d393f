// SPDX-License-Identifier: Apache-2.0
// The fabric between ranks, whatever wire is below: links, frames, puts, regions, fences. Each wire
// spawns an actor of its own with this state, on its thread.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/rank_counters.hpp"
#include "transport/fabric/inbound_writes.hpp"
#include "transport/fabric/link_table.hpp"
#include "transport/fabric/outbound_puts.hpp"
#include "transport/fabric/peer_regions.hpp"
#include "transport/fabric/quiet_waits.hpp"
#include "transport/fabric/staging_service.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/fabric/wired_fabric_actor.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

struct fabric_dependencies {
    incarnation self;
    /// Gets the frames of peers to which no endpoint is open; may be null.
    frame_sink_actor default_sink;
    limits bounds;
    /// Counts bytes that are refused here; may be null.
    rank_counters_ptr counters = {};
    /// Draws the secrets of access keys; empty: from the system.
    std::function<std::uint64_t()> draw = {};
};

class fabric_state : public wire_user {
public:
    using pointer = wired_fabric_actor::pointer;

    fabric_state(pointer self, fabric_dependencies, std::unique_ptr<wire>);
    fabric_state(const fabric_state&) = delete;
    fabric_state& operator=(const fabric_state&) = delete;

    void handler_failed(const caf::error&);

    void arrived(fabric_message, byte_view head, byte_view payload) override;
    landing land(fabric_message, byte_view head, std::uint64_t bytes) override;
    bool may_land(fabric_message, byte_view head, landing&) override;
    void landed(landing&&) override;
    std::uint64_t read_begins(const landing&) override;
    void read_ended(std::uint64_t number) override;
    bool on_progress() override;
    void after(std::chrono::nanoseconds, std::function<void()> what) override;

protected:
    using answer = caf::typed_response_promise<void>;

    virtual ~fabric_state() = default;

    /// For make_behavior() of a wire's own state, whose name stands in traces.
    template <class State>
    static wired_fabric_actor::behavior_type behavior_of(State* state) {
        return {
            // What each transfer needs comes first: CAF looks for a handler from above.
            handle(state, &State::on_send_frame),
            handle(state, &State::on_start_put),
            handle(state, &State::on_allow_writes),
            handle(state, &State::on_forbid_writes),
            handle(state, &State::on_open_endpoint),
            handle(state, &State::on_peer_memory_mapped),
            handle(state, &State::on_peer_regions_offered),
            handle(state, &State::on_cancel_transfer),
            handle(state, &State::on_close_endpoint),
            handle(state, &State::on_register_region),
            handle(state, &State::on_unregister_region),
            handle(state, &State::on_describe_fabric),
            handle(state, &State::on_drain_fabric),
            handle(state, &State::on_forbid_all),
            handle(state, &State::on_stop_io),
            handle(state, &State::on_scattered),
            handle(state, &State::on_frame_arrived),
            handle(state, &State::on_tick),
            handle(state, &State::on_break),
        };
    }

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
    void on_scattered(const transfer_done&);
    void on_frame_arrived(frame_arrived&);
    void on_tick(const deadline_tick&);
    void on_break(const endpoint_failed&);

    /// Ends everything of the wire. After an orderly stop nothing is under way. When the actor was
    /// killed, running operations are ended here, within a bounded time; a wire's state calls it in
    /// its destructor.
    void release();

    wire& below() { return *wire_; }

    pointer self_;
    inbound_writes inbound_;

private:
    struct link {
        enum class phase : std::uint8_t {
            open,
            /// Accepts nothing new: it is being closed. Its puts end first.
            ending,
            /// Then everything is flushed, and the connection is closed.
            flushing,
            failed
        };
        endpoint_id id;
        incarnation peer;
        frame_sink_actor owner;
        std::unique_ptr<wire_connection> connection;
        peer_regions regions = {};
        /// Memory of the peer that this process has mapped.
        lent_regions lent = {};
        phase now = phase::open;
        /// Why it failed.
        caf::error failure = {};
        std::vector<answer> closed = {};

        bool is_open() const { return now == phase::open; }
    };

    // Links (fabric_links.cpp).
    caf::expected<link*> make_link(incarnation peer, byte_view address, frame_sink_actor owner);
    void learn_regions(link&, const std::vector<memory_region>&);
    void fail_link(link&, caf::error reason);
    void lose_link(link&, caf::error reason);
    void leave(incarnation peer);
    void close_in_order(link&);
    void advance_close(link&);
    void finish_link(endpoint_id);
    void force_all(const caf::error& reason);
    void finish_stop();
    void end();
    void hand_on(byte_buffer frame);

    // Puts (fabric_puts.cpp).
    bool post(endpoint_id);
    void carry_out_puts();
    void show_puts();
    void carry_out(const post_piece&);
    void carry_out(const post_bundle&);
    void carry_out(post_references&);
    void carry_out(const ask_for_credit&);
    void carry_out(post_end&);
    void carry_out(put_over&);
    void on_credit(const credit_head&, const std::string& text);
    void serve_inbound();
    void count_refused();
    void reclaim_later();
    link* way_back(incarnation writer, byte_view address);
    void answer_writer(link& back, fabric_message, byte_view head, const caf::error& reason);
    void confirm(const finished_writes&);
    void pass_on(const granted_credit&);

    // fabric_io.cpp
    void handle_event(const wire_event&);
    /// Runs one step; an exception ends only that step, not the rest of the queue.
    template <class F>
    void guarded(const char* what, F&& step) {
        try {
            step();
        } catch (const std::exception& error) {
            step_failed(what, error.what());
        }
    }
    void step_failed(const char* what, const char* why);
    caf::result<void> when_quiet(quiet_waits<answer>::subject);
    void finish_waits();
    auto may_put() const;
    std::uint64_t draw_number();

    fabric_dependencies with_;
    std::unique_ptr<wire> wire_;
    /// Of the wire: with each end of a put.
    byte_buffer address_;
    link_table<link> links_;
    outbound_puts puts_;
    recycled_map<transfer_id, completion_actor> put_owners_;
    std::set<region_id> regions_;
    staging_service<std::remove_pointer_t<pointer>> service_;
    quiet_waits<answer> waits_;
    bool reclaiming_ = false;
    std::vector<byte_buffer> arrived_;
    std::vector<byte_buffer> handed_on_;
    struct confirmed {
        written_head head;
        std::string text;
        std::optional<damaged_bytes> damaged;
    };
    std::vector<confirmed> written_;
    std::vector<std::pair<credit_head, std::string>> credits_;
    std::uint64_t refused_told_ = 0;
    enum class life : std::uint8_t { running, stopping, released };
    life now_ = life::running;
    std::vector<answer> stopped_;
    std::uint64_t last_endpoint_ = 0;
    std::uint64_t last_region_ = 0;
    std::uint64_t dropped_frames_ = 0;
};

} // namespace kvferry
