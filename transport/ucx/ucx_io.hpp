// SPDX-License-Identifier: Apache-2.0
// The fabric between ranks over UCX: lives on its loop's thread, the only actor that calls UCX.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/header.hpp"
#include "transport/fabric/inbound_writes.hpp"
#include "transport/fabric/put_credit.hpp"
#include "transport/fabric/staging_service.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/planner/merged_cursor.hpp"
#include "transport/ucx/ucx_worker.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <deque>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace kvferry {

class ucx_io_state {
public:
    static inline constexpr const char* name = "ucx_io";

    using dependencies = ucx_fabric_options;

    /// Made on the loop's thread, like everything here.
    ucx_io_state(ucx_io_actor::pointer self, dependencies, std::unique_ptr<ucx_worker>);
    ~ucx_io_state();

    ucx_io_actor::behavior_type make_behavior();
    void handler_failed(const caf::error&);

private:
    using answer = caf::typed_response_promise<void>;

    /// The peer's access key of one of its regions, or why it cannot be used.
    struct region_key {
        access_key_head head;
        ucx_rkey_handle rkey;
        /// The region is memory on a device: written by message, with credit.
        bool staged = false;
        caf::error unusable;
    };
    struct link {
        endpoint_id id;
        incarnation peer;
        frame_sink_actor owner;
        std::vector<memory_region> regions;
        std::vector<region_key> keys;
        /// Memory of the peer that this process has mapped.
        lent_regions lent;
        std::unique_ptr<ucx_endpoint> endpoint;
        bool by_rma = false;
        /// Numbers of all puts on the link, and of those that still post, in turn.
        std::set<std::uint64_t> puts;
        std::deque<std::uint64_t> posting;
        /// Bytes posted in the current put's turn.
        std::uint64_t turn_bytes = 0;
        std::size_t pieces_in_flight = 0;
        /// Accepts nothing new: it is being closed or has failed.
        bool ending = false;
        /// The flush of an orderly close is under way.
        bool flushing = false;
        /// Why it failed; none during an orderly close.
        caf::error failure;
        /// UCX ends the operations itself; close the endpoint after the last one.
        bool lost = false;
        std::vector<answer> closed;
    };
    struct put {
        transfer_id id;
        endpoint_id over;
        copy_job job;
        completion_actor reply_to;
        kvferry::attempt for_attempt;
        std::chrono::nanoseconds posting{0};
        time_point began;
        merged_cursor cursor;
        put_credit credit;
        bool by_rma = false;
        /// Waits for credit, and is not in link::posting.
        bool parked = false;
        std::uint64_t pieces = 0;
        /// Pieces without an event: UCX may still read their memory.
        std::size_t open = 0;
        bool all_posted = false;
        bool end_posted = false;
        /// The target has confirmed all pieces, or a flush has ended.
        bool settled = false;
        /// The target's device may still be writing.
        bool in_doubt = false;
        /// Why the put fails; none so far.
        caf::error failure;
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

    // Links (ucx_links.cpp).
    link* find_open(endpoint_id);
    link* find_open(incarnation peer);
    caf::expected<link*> make_link(incarnation peer, byte_view address, frame_sink_actor owner);
    void fail_link(link&, caf::error reason);
    void lose_link(link&, caf::error reason);
    void guard_connections();
    void watch_ports();
    void leave(incarnation peer);
    void close_when_quiet(link&);
    void advance_close(link&);
    void finish_link_if_over(endpoint_id);
    void force_all(const caf::error& reason);
    void finish_stop();
    void release();
    void end();

    // What UCX says (ucx_io.cpp).
    void on_message(unsigned message, byte_view head, byte_view payload);
    bool after_progress();
    template <class F>
    void attempt(const char* what, F&& f);
    void handle_event(const ucx_event&);
    void hand_on(byte_buffer frame);

    // Puts of peers (ucx_inbound.cpp).
    void serve_inbound();
    void count_refused();
    void reclaim_later();
    link* way_back(incarnation writer, byte_view address);
    void answer_writer(link& back, ucx_message what, byte_view head, const caf::error& reason);
    void confirm(const finished_writes&);
    void pass_on(const granted_credit&);
    void on_scattered(const transfer_done&);
    void finish_drains();

    // Puts (ucx_puts.cpp).
    void prepare_keys(link&, std::vector<memory_region>);
    caf::error check(const link&, const copy_job&) const;
    bool pump(link&);
    bool post_next(link&, std::uint64_t number, put&);
    void post_piece(link&, std::uint64_t number, put&, const plan_stretch&);
    void count_piece(link&, put&);
    bool post_references(link&, std::uint64_t number, put&);
    void post_end(link&, std::uint64_t number, put&);
    void on_piece_over(link&, std::uint64_t number);
    void give_up(std::uint64_t number, caf::error why);
    void on_written(const written_head&, const std::string& text);
    void ask_for_credit(link&, std::uint64_t number, const put_credit::demand&);
    void on_credit(const credit_head&, const std::string& text);
    void advance_put(std::uint64_t number);
    void finish_put(std::uint64_t number, agent_result);

    /// A random number: unguessable, and unique with near certainty.
    std::uint64_t draw_number();

    ucx_io_actor::pointer self_;
    dependencies with_;
    std::random_device random_;
    std::unique_ptr<ucx_worker> worker_;
    /// Keeps the fabric alive without an outside reference: it ends by stop_io.
    caf::strong_actor_ptr keep_alive_;

    std::map<endpoint_id, link> links_;
    /// The same by peer, and those that have something to post: no frame and no poll looks at all
    /// links.
    std::map<incarnation, std::set<endpoint_id>> of_peer_;
    std::set<endpoint_id> posting_;
    std::map<std::uint64_t, put> puts_;
    std::map<transfer_id, std::uint64_t> put_numbers_;
    /// New connections are about to be made close-on-exec.
    bool guarding_ = false;
    /// Values are empty where nothing is registered with UCX: those regions take puts by message.
    std::map<region_id, ucx_mapped_memory> regions_;
    inbound_writes inbound_;
    staging_service<std::remove_pointer_t<ucx_io_actor::pointer>> service_;
    bool reclaiming_ = false;
    std::vector<byte_buffer> arrived_;
    std::vector<std::pair<written_head, std::string>> written_;
    std::vector<std::pair<credit_head, std::string>> credits_;
    std::vector<std::pair<incarnation, answer>> drains_;
    /// Attempts that are over, answered when the last scatter for them has ended.
    std::vector<std::pair<kvferry::attempt, answer>> over_;
    /// Answered when no scatter is left.
    std::vector<answer> all_over_;
    std::uint64_t refused_told_ = 0;
    /// Unregistered regions, answered when the last scatter into them has ended.
    std::vector<std::pair<region_id, answer>> forbidden_;
    bool stopping_ = false;
    bool releasing_ = false;
    std::vector<answer> stopped_;
    std::uint64_t last_endpoint_ = 0;
    std::uint64_t last_put_ = 0;
    std::uint64_t last_region_ = 0;
    std::uint64_t dropped_frames_ = 0;
};

} // namespace kvferry
