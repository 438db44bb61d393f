// SPDX-License-Identifier: Apache-2.0
// A link made of its two values alone: what a peer_link does with their effects, without actors,
// frames or a clock. What it says lies in `sent`, what its fabric owes it in `owed`.
#pragma once

#include "actors/decisions/links/handshake.hpp"
#include "actors/decisions/links/message_order.hpp"

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvferry::testing {

/// A rank in a few fields: `number` is its incarnation, its token a hundred times that.
inline rank_info named_rank(const std::string& instance, std::uint64_t number) {
    rank_info result;
    result.instance = instance;
    result.incarnation = {number};
    result.token = {100 * number};
    result.world_size = 1;
    result.layout.layers_per_stage = {1};
    result.machine = "a";
    result.host_link_name = instance;
    result.accepts.message_bytes_max = 1 << 20;
    return result;
}

class valued_link {
public:
    valued_link(handshake::dependencies with)
        : link(with), order({with.dial, with.peer, with.bounds.pending_per_link_max}),
          self_(with.self.incarnation), peer_(with.peer.incarnation) {}

    handshake link;
    message_order order;
    std::vector<wire_message> sent;
    /// Answers that the fabric, the same-host link and the devices owe.
    std::vector<handshake::event> owed;
    std::vector<wire_message> handed_on;
    int ups = 0;
    int losses = 0;
    int proofs = 0;
    bool ended = false;
    std::uint64_t events = 0;

    /// The last one that was made.
    endpoint_id endpoint() const { return {endpoints_}; }

    void tell(handshake::event x, time_point now) {
        decide(std::move(x), now);
        while (link.hears()) {
            ++events;
            auto next = order.on(message_order::listened{}, now);
            if (next.empty())
                return;
            perform_all(std::move(next), now);
        }
    }

    void arrives(wire_message message, time_point now) {
        if (ended)
            return;
        if (std::holds_alternative<register_rank_info>(message)
            || std::holds_alternative<rank_registered>(message)
            || std::holds_alternative<refused>(message))
            return tell(handshake::arrived{std::move(message)}, now);
        ++events;
        perform_all(order.on(message_order::arrived{std::move(message)}, now), now);
        tell(handshake::stirred{}, now);
    }

    void say(wire_message message, time_point now) {
        ++events;
        perform_all(order.on(message_order::said{std::move(message)}, now), now);
        tell(handshake::stirred{}, now);
    }

private:
    void decide(handshake::event x, time_point now) {
        ++events;
        perform_all(link.on(std::move(x), now), now);
    }

    template <class Effects>
    void perform_all(Effects list, time_point now) {
        const auto over = link.is_over();
        for (auto& effect : list)
            if (link.is_over() == over)
                std::visit([this, now](auto& x) { this->perform(x, now); }, effect);
    }

    // -- effects of the handshake --
    void perform(handshake::make_endpoint& x, time_point) {
        owed.push_back(handshake::endpoint_made{{++endpoints_}, false, x.version});
    }
    void perform(handshake::show_regions&, time_point) {
        owed.push_back(handshake::regions_shown{});
    }
    void perform(handshake::leave_endpoint&, time_point) {
        owed.push_back(handshake::endpoint_left{});
    }
    void perform(handshake::dial_host_link&, time_point) { host_link(); }
    void perform(handshake::expect_host_link&, time_point) { host_link(); }
    void perform(handshake::transmit& x, time_point) { send(std::move(x.message), x.as); }
    void perform(handshake::expect& x, time_point now) {
        perform_all(order.on(message_order::expected{x.behind}, now), now);
    }
    void perform(handshake::enqueue& x, time_point now) {
        perform_all(order.on(message_order::arrived{std::move(x.message)}, now), now);
    }
    void perform(handshake::come_up& x, time_point now) {
        ++ups;
        perform_all(order.on(message_order::opened{std::move(x.offer)}, now), now);
    }
    void perform(handshake::speak_early&, time_point now) {
        perform_all(order.on(message_order::opened{}, now), now);
    }
    void perform(handshake::tell_rank_of_loss&, time_point now) {
        ++losses;
        perform_all(order.on(message_order::closed{}, now), now);
    }
    void perform(handshake::hand_on& x, time_point) { handed_on.push_back(std::move(x.message)); }
    void perform(handshake::tell_of_exit&, time_point) { ++proofs; }
    void perform(handshake::end&, time_point) { ended = true; }
    void perform(handshake::exit&, time_point) { ended = true; }

    // -- effects of the order --
    void perform(message_order::transmit& x, time_point) { send(std::move(x.message), self_); }
    void perform(message_order::hear& x, time_point now) {
        decide(handshake::heard{std::move(x.message)}, now);
    }
    void perform(message_order::give_up& x, time_point now) {
        decide(handshake::broken{std::move(x.reason)}, now);
    }

    /// Everything else concerns this rank alone.
    template <class Effect>
    void perform(Effect&, time_point) {}

    void host_link() { owed.push_back(handshake::host_link_made{{}, true, false, {}}); }

    void send(wire_message message, incarnation as) {
        auto& header = header_of(message);
        header.sender = as;
        header.receiver = peer_;
        header.sequence = order.number();
        (void)order.on(message_order::sent{}, {});
        sent.push_back(std::move(message));
    }

    incarnation self_;
    incarnation peer_;
    std::uint64_t endpoints_ = 0;
};

} // namespace kvferry::testing
