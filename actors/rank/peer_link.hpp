// SPDX-License-Identifier: Apache-2.0
// The link to one (rank, incarnation): dial or accept, handshake, typed messages both ways,
// liveness. It ends once; a new link to the same peer is a new actor.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/rank/link_pulse.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace kvferry {

struct peer_link_state {
    static inline constexpr const char* name = "peer_link";

    struct dependencies {
        limits bounds;
        rank_info self;
        std::vector<memory_region> regions;
        fabric_actor fabric;
        /// Null on a rank without same-host link.
        host_link_actor host_link;
        /// Devices that map the peer's regions, keyed by ordinal.
        std::map<int, device_actor> devices;
        transfer_worker_actor worker;
        sender_actor sender;
        receiver_actor receiver;
        /// Of this dial.
        dial_id dial;
        /// Whom to dial; for an accepted link what it said of itself.
        rank_info peer;
        /// Set on the accepting side: the dialler's first message.
        std::optional<register_rank_info> introduction;
        rank_counters_ptr counters = {};
        deciders_ptr deciders = {};
    };

    peer_link_state(peer_link_actor::pointer self, dependencies);
    ~peer_link_state();

    peer_link_actor::behavior_type make_behavior();

    /// An exception in a handler ends this link.
    void handler_failed(const caf::error&);

private:
    /// connecting: endpoint and same-host link are being made. introduced: register_rank_info has
    /// been sent. ready: both sides agree. lost: final; may still watch the peer's process.
    enum class phase { connecting, introduced, ready, lost };

    void on_start(const start_link&);
    void on_frame(const frame_arrived&);
    void on_endpoint_failed(const endpoint_failed&);
    void on_host_link_up(const host_link_up&);
    void on_host_link_down(const host_link_down&);
    void on_process_gone(const process_gone&);
    void on_deadline(const deadline_tick&);
    caf::result<void> on_send(const send_message&);
    void on_close(const close_link&);

    void on_message(register_rank_info&);
    void on_message(rank_registered&);
    void on_message(refused&);
    void on_message(termination&);
    void on_message(link_health&);
    template <class Actor, class Message>
    void hand_to(const Actor& owner, Message&);
    template <class Message>
    void hand_to_side(Message&);
    void on_message(offer_regions&);
    void on_message(request_data&);
    void on_message(transfer_started&);
    void on_message(kv_agent_result&);
    void on_message(aux_agent_result&);
    void on_message(cancel_session&);
    void on_message(gone&);
    template <class Message>
    void on_message(Message&);

    bool answers_dial(const wire_message&) const;
    bool of_former_link(std::uint64_t sequence) const;
    void hear_from(std::uint64_t sequence);
    void hear_in_order();

    void make_endpoint();
    void endpoint_answered();
    void connect_same_host();
    void proceed();
    void hear_regions(std::vector<memory_region>);
    bool mapped_by_devices();
    void device_answered(int device, const caf::expected<peer_regions_mapped>&,
                         std::uint64_t regions_heard);
    void refuse_introduction(const caf::error& problem);
    caf::error check_introduction() const;
    void become_ready();
    bool hear_confirmation(const wire_message& behind_introduction);
    void announce();
    void announce_if_mapped();
    void pass_on(wire_message);
    void feel_pulse();
    void stir();
    void stamp(message_header&);
    std::uint64_t frame_bytes_max() const;
    caf::error try_send(wire_message&);
    void send_now(wire_message);
    void refuse_locally(const wire_message&, const caf::error&);
    /// after_last_frame: a refusal or a goodbye still goes out.
    enum class closing { forced, after_last_frame };
    void give_up(const caf::error& reason);
    void lose(const caf::error& reason, closing = closing::forced);
    void close_and_tell(const caf::error& reason, closing);
    void peer_has_left(const caf::error& reason);
    void leave_within(std::chrono::milliseconds);
    void last_frame_sent();
    void end_if_over();
    std::string who() const { return describe(with_.peer); }
    /// An end without a word would leave the peer with a link that nobody hears.
    bool peer_may_be_ready() const {
        return endpoint_ && (phase_ == phase::ready || (phase_ != phase::lost && answered_));
    }

    peer_link_actor::pointer self_;
    dependencies with_;
    /// Fixed at the start: this side introduces itself first. It may have to answer as well.
    bool dials_ = false;
    phase phase_ = phase::connecting;
    std::optional<endpoint_id> endpoint_;
    /// The fabric has not answered open_endpoint yet; the link does not end before it has.
    bool opening_ = false;
    /// Why it was told to exit meanwhile; it obeys when the fabric has answered.
    caf::error exiting_;
    /// answered_: the peer's register_rank_info has been answered. accepted_: its rank_registered
    /// has come. confirmed_: it has said something after that answer. A dialler that has given up
    /// meanwhile does not, and the acceptor would ask it in vain.
    bool answered_ = false;
    bool accepted_ = false;
    bool confirmed_ = false;
    bool awaits_introduction_ = false;
    bool host_link_settled_ = false;
    bool host_link_up_ = false;
    bool process_watched_ = false;
    /// Pages were announced over a former link to the same process, whose end is still waited for.
    bool inherited_ = false;
    /// Its rank has told it to end: it waits for nobody's death.
    bool closed_ = false;
    bool by_rma_ = false;
    /// The peer's process is proven gone, or it has left in order.
    bool peer_left_ = false;
    /// When to stop waiting for the last frame to leave.
    std::optional<time_point> leave_by_;
    std::chrono::milliseconds last_frame_within_ = with_.bounds.dial_deadline;
    bool ended_ = false;
    std::vector<mapped_region> mapped_;
    /// Of regions on the peer's devices, until this rank's devices have mapped them.
    std::map<std::uint32_t, device_chunks> device_chunks_;
    /// The fabric has been told of them (peer_memory_mapped).
    bool memory_told_ = false;
    std::string unmapped_reason_;
    std::map<std::pair<int, std::uint32_t>, std::string> device_obstacles_;
    /// Why the same-host link could not map a region.
    std::map<std::uint32_t, std::string> host_obstacles_;
    bool devices_asked_ = false;
    std::size_t devices_pending_ = 0;
    /// Counts the peer's lists of regions, so that a device's answer about a former list is
    /// recognised.
    std::uint64_t regions_heard_ = 0;
    /// The peer has been told this rank's regions, or is about to be.
    bool regions_told_ = false;
    /// The devices map regions that a ready link has heard; the peer's next messages wait for it.
    bool mapping_ = false;
    /// The peer's regions: known once it has introduced itself.
    std::vector<memory_region> peer_regions_;
    std::deque<wire_message> waiting_;
    std::uint64_t sequence_ = 0;
    /// Number of the peer's next message, once known; `ahead_` holds those that came before their
    /// turn.
    std::optional<std::uint64_t> next_sequence_;
    std::map<std::uint64_t, wire_message> ahead_;
    /// Since the link is ready. `awaited_` is held by those who wait for the peer, too.
    std::optional<link_pulse> pulse_;
    std::shared_ptr<const void> awaited_ = std::make_shared<char>();
    tick_timer timer_;
    std::uint64_t health_questions_ = 0;
};

} // namespace kvferry
