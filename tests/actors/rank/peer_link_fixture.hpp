// SPDX-License-Identifier: Apache-2.0
// A peer_link among stubs: the test is the peer, and speaks in frames of the real codec.
#pragma once

#include "actors/rank/peer_link.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"
#include "transport/loop/resident.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

enum class reach { same_host, other_machine };

class link_fixture {
public:
    virtual_system vs;
    stub<fabric_actor> fabric{vs};
    stub<host_link_actor> host_link{vs};
    stub<transfer_worker_actor> worker{vs};
    stub<sender_actor> sender{vs};
    stub<receiver_actor> receiver{vs};
    std::map<int, device_actor> devices;
    rank_counters_ptr counters = std::make_shared<rank_counters>();
    limits bounds;
    rank_info self;
    rank_info peer;
    std::vector<memory_region> peer_regions{{0x7000, 4096, memory_kind::host_shared, {}}};
    peer_link_actor link;
    static constexpr dial_id own_dial{33};

    explicit link_fixture(reach where = reach::other_machine, limits wanted = {}) : bounds(wanted) {
        cache_format format;
        format.layers = 1;
        format.kv_heads = 1;
        format.head_dim = 4;
        format.tokens_per_block = 4;
        self = make_instance("ctx", {}, format).front();
        peer = make_instance("gen", {}, format).front();
        self.incarnation = {1};
        peer.incarnation = {2};
        self.token = {111};
        peer.token = {222};
        self.accepts.message_bytes_max = peer.accepts.message_bytes_max = std::size_t{1} << 20;
        self.machine = "a";
        peer.machine = where == reach::same_host ? "a" : "b";
        self.host_link_name = "ctx-socket";
        peer.host_link_name = "gen-socket";
        fabric.answer<open_endpoint>([](const open_endpoint&) { return endpoint_opened{{5}}; });
    }

    /// What the peer says first.
    register_rank_info introduction(dial_id dial = {77}) const {
        register_rank_info result;
        result.header.sender = peer.incarnation;
        result.header.receiver = self.incarnation;
        result.dial = dial;
        result.info = peer;
        result.regions = peer_regions;
        result.token = self.token;
        return result;
    }

    void spawn(std::optional<register_rank_info> introduced = std::nullopt) {
        next_from_peer_ = introduced ? 1 : 0;
        link = vs.track(spawn_at<peer_link_actor, peer_link_state>(
            vs.system(), {},
            peer_link_state::dependencies{bounds,
                                          self,
                                          {{0x9000, 512, memory_kind::host_shared, {}}},
                                          fabric.handle(),
                                          host_link.handle(),
                                          devices,
                                          worker.handle(),
                                          sender.handle(),
                                          receiver.handle(),
                                          own_dial,
                                          peer,
                                          std::move(introduced),
                                          counters}));
    }
    void dial() {
        spawn();
        tell(start_link{});
    }
    void accept() { accept(introduction()); }
    void accept(register_rank_info introduced) {
        spawn(std::move(introduced));
        tell(start_link{});
        if (!sent<rank_registered>().empty())
            confirm();
    }
    /// The peer knows that it was accepted.
    void confirm() { arrives(link_health{{}, 0, true}); }
    /// Dials, and completes the link.
    void connect() {
        dial();
        arrives(rank_registered{});
        REQUIRE(ready().size() == 1);
    }

    template <class Message>
    void tell(Message message) {
        vs.tell_and_run(link, std::move(message));
    }

    void host_link_is_up(bool watched = true) {
        tell(host_link_up{peer.incarnation, {{0, nullptr, 4096, {}}}, watched});
    }
    void host_link_is_down() {
        tell(host_link_down{peer.incarnation, make_error(errc::dial_failed, "nobody listens")});
    }

    /// An answer that names no dial is for this link's own dial.
    byte_buffer frame(wire_message message, std::uint64_t sequence) const {
        auto name_dial = [](dial_id& dial) {
            if (dial == dial_id{})
                dial = own_dial;
        };
        if (auto* accepts = std::get_if<rank_registered>(&message))
            name_dial(accepts->dial);
        else if (auto* refuses = std::get_if<refused>(&message);
                 refuses && refuses->header.attempt == attempt{})
            name_dial(refuses->dial);
        return plain_frame(std::move(message), sequence);
    }
    byte_buffer plain_frame(wire_message message, std::uint64_t sequence) const {
        auto& header = header_of(message);
        if (header.sender.value == 0)
            header.sender = peer.incarnation;
        if (header.receiver.value == 0)
            header.receiver = self.incarnation;
        header.sequence = sequence;
        auto result = encode(message, std::size_t{1} << 20);
        REQUIRE(result);
        return *result;
    }
    /// The peer's next message.
    frame_arrived next(wire_message message) {
        return {frame(std::move(message), next_from_peer_++)};
    }
    void arrives(wire_message message) { tell(next(std::move(message))); }

    /// All sent frames, decoded.
    std::vector<wire_message> sent() const {
        std::vector<wire_message> result;
        for (const auto& sent : fabric.received<send_frame>()) {
            auto message = decode(sent.frame, std::size_t{1} << 20);
            REQUIRE(message);
            result.push_back(std::move(*message));
        }
        return result;
    }
    template <class Message>
    std::vector<Message> sent() const {
        std::vector<Message> result;
        for (auto& message : sent())
            if (auto* one = std::get_if<Message>(&message))
                result.push_back(*one);
        return result;
    }

    /// Questions about the peer's health, and answers; not what confirms a dial.
    std::vector<link_health> pulses() const {
        auto result = sent<link_health>();
        std::erase_if(result, [](const link_health& x) { return x.nonce == 0; });
        return result;
    }

    std::vector<peer_ready> ready() const { return worker.received<peer_ready>(); }
    std::size_t losses() const { return worker.received<peer_lost>().size(); }
    std::string loss() const {
        REQUIRE(losses() == 1);
        CHECK(sender.received<peer_lost>().size() == 1);
        CHECK(receiver.received<peer_lost>().size() == 1);
        return describe(worker.received<peer_lost>().front().reason);
    }
    std::size_t proofs() const { return receiver.received<process_gone>().size(); }
    /// The `force` of every close_endpoint.
    std::vector<bool> closes() const {
        std::vector<bool> result;
        for (const auto& message : fabric.received<close_endpoint>())
            result.push_back(message.force);
        return result;
    }
    /// True when the link has ended: nobody answers.
    bool ended() { return vs.ask_and_run<void>(link, deadline_tick{}).failed(); }

private:
    std::uint64_t next_from_peer_ = 0;
};

/// Two links that are up and hear what the other one sends: both ends are the product's.
class link_pair {
public:
    link_fixture near;
    link_fixture far;

    /// `far_accepts`: the longest message that the far side takes.
    explicit link_pair(std::uint64_t far_accepts = std::uint64_t{1} << 20) {
        std::swap(far.self, far.peer);
        near.peer.accepts.message_bytes_max = far_accepts;
        near.dial();
        const auto introduced = near.sent<register_rank_info>();
        REQUIRE(introduced.size() == 1);
        near_told_ = 1;
        far.spawn(introduced[0]);
        far.tell(start_link{});
        carry();
        REQUIRE(near.ready().size() == 1);
        REQUIRE(far.ready().size() == 1);
    }

    /// Carries what was sent to the other side, and what that makes it answer, until all is heard.
    void carry() {
        while (carry(near, far, near_told_) || carry(far, near, far_told_)) {
        }
    }

private:
    static bool carry(link_fixture& from, link_fixture& to, std::size_t& told) {
        const auto frames = from.fabric.received<send_frame>();
        const auto any = told < frames.size();
        for (; told < frames.size(); ++told)
            to.tell(frame_arrived{frames[told].frame});
        return any;
    }

    std::size_t near_told_ = 0;
    std::size_t far_told_ = 0;
};

} // namespace kvferry::testing
