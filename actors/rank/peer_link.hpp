// SPDX-License-Identifier: Apache-2.0
// The link to one (rank, incarnation): dial or accept, handshake, typed messages both ways,
// liveness. It ends once; a new link to the same peer is a new actor.
//
// It carries: `handshake` and `message_order` decide. What comes is an event of one of them, what
// they answer is done here.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/decisions/links/handshake.hpp"
#include "actors/decisions/links/message_order.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/links.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"

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
        /// Why the rank takes no peer: the dialler is told, and that is all that this link does.
        caf::error closed = {};
    };

    peer_link_state(peer_link_actor::pointer self, dependencies);
    ~peer_link_state();

    peer_link_actor::behavior_type make_behavior();

    /// An exception in a handler ends this link.
    void handler_failed(const caf::error&);

private:
    // What happens, as events.
    void on_start(const start_link&);
    void on_frame(const frame_arrived&);
    void on_unknown(const frame_arrived&);
    bool is_for_next_link(const frame_arrived&, std::uint64_t sequence);
    void hear_report(wire_message);
    void on_endpoint_failed(const endpoint_failed&);
    void on_host_link_up(const host_link_up&);
    void on_host_link_down(const host_link_down&);
    void on_process_gone(const process_gone&);
    void on_deadline(const deadline_tick&);
    caf::result<void> on_send(send_message&);
    void on_close(const close_link&);

    void happens(handshake::event);
    void decide_link(handshake::event);
    void decide_order(message_order::event);
    void settle();

    // What the values have decided.
    void perform(handshake::effects);
    void perform(handshake::make_endpoint&);
    void perform(handshake::drop_endpoint&);
    void perform(handshake::leave_endpoint&);
    void perform(handshake::dial_host_link&);
    void perform(handshake::expect_host_link&);
    void perform(handshake::ask_devices&);
    void perform(handshake::show_mappings&);
    void perform(handshake::show_regions&);
    void perform(handshake::transmit&);
    void perform(handshake::expect&);
    void perform(handshake::enqueue&);
    void perform(handshake::come_up&);
    void perform(handshake::speak_early&);
    void perform(handshake::renew_view&);
    void perform(handshake::hand_on&);
    void perform(handshake::hand_back&);
    void perform(handshake::ignore&);
    void perform(handshake::tell_rank_of_loss&);
    void perform(handshake::tell_sessions_of_loss&);
    void perform(handshake::tell_of_exit&);
    void perform(handshake::end&);
    void perform(handshake::exit&);

    void perform(message_order::effects);
    void perform(message_order::transmit&);
    void perform(message_order::not_sent&) {}
    void perform(message_order::refuse_here&);
    void perform(message_order::hear&);
    void perform(message_order::give_up&);
    void perform(message_order::ignore&);

    void announce(std::shared_ptr<peer_view>);
    caf::error closed() const;
    void transmit(wire_message&&, incarnation as, bool shortened);
    void stamp(message_header&, incarnation as);
    std::uint64_t frame_bytes_max() const;
    std::string who() const { return describe(with_.peer); }

    peer_link_actor::pointer self_;
    dependencies with_;
    handshake link_;
    message_order order_;
    /// Copies of this link's own.
    decider<handshake> link_decider_;
    decider<message_order> order_decider_;
    /// Where the last frames go.
    endpoint_id endpoint_;
    /// Endpoints that the fabric has not dropped yet; the link ends behind the last.
    std::size_t drops_ = 0;
    bool over_ = false;
    /// Have overtaken the introduction that the next link begins with.
    std::vector<byte_buffer> for_next_link_;
    /// Came ahead of the answer to a dial that has asked already.
    std::vector<wire_message> early_reports_;
    /// Held by those who wait for the peer, too.
    std::shared_ptr<const void> awaited_ = std::make_shared<char>();
    tick_timer timer_;
};

} // namespace kvferry
