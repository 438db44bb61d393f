// SPDX-License-Identifier: Apache-2.0
// A loopback network as a wire of the fabric: messages are copied, and wait until their target
// runs, as bytes wait in a socket.
#include "transport/loopback/loopback_io.hpp"

#include "messages/values/error_format.hpp"
#include "transport/fabric/fabric_io.hpp"
#include "transport/fabric/put_bundle.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

namespace kvferry {

namespace {

/// Longest piece of a put, which waits at the target in memory of its own.
constexpr std::uint64_t piece_bytes_max = std::uint64_t{64} << 10;

class loopback_wire;

class loopback_connection final : public wire_connection {
public:
    loopback_connection(loopback_wire& below, endpoint_id id, incarnation peer, std::uint64_t to);
    ~loopback_connection() override;

    void send(fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag) override;
    bool send_from(fabric_message what, byte_view head, byte_view payload,
                   std::uint64_t tag) override {
        send(what, head, {payload.begin(), payload.end()}, tag);
        return false;
    }
    void flush(std::uint64_t tag) override;
    void close(bool force) override;
    wire_room room() override;

    /// Its events, when the network has one.
    void note(wire_event, std::vector<wire_event>& to);

private:
    void end(std::vector<wire_event>& to);

    loopback_wire& below_;
    endpoint_id id_;
    incarnation peer_;
    std::uint64_t to_;
    /// Pieces that the target has not taken, the oldest first.
    std::deque<std::uint64_t> waiting_;
    bool ended_ = false;
};

class loopback_wire final : public wire {
public:
    loopback_wire(std::shared_ptr<loopback_network> network, const wired_fabric_actor& self,
                  std::uint64_t round_bytes)
        : network(std::move(network)), number(this->network->attach(self)),
          round_bytes(round_bytes) {}

    void start(wire_user& user) override { user_ = &user; }
    byte_buffer address() const override { return loopback_network::address_of(number); }
    std::string transports() const override { return "loopback"; }
    std::string_view key_label() const override { return "loopback access key"; }

    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation peer, byte_view address,
                                                            endpoint_id id) override {
        auto to = loopback_network::twin_at(address);
        if (!to)
            return make_error(errc::dial_failed, text_of(to.error()));
        if (!network->connect(number, id, *to)) // it will never come back: addresses are used once
            return make_error(errc::dial_failed, "nobody listens at this loopback address");
        return std::unique_ptr<wire_connection>{
            std::make_unique<loopback_connection>(*this, id, peer, *to)};
    }

    void wake() override { network->ring(number); }

    void progress() override {
        for (auto& item : network->take(number, round_bytes)) {
            if (auto* packet = std::get_if<loopback_packet>(&item))
                take(*packet);
            else if (auto& event = std::get<wire_event>(item); connections.contains(event.endpoint))
                connections.at(event.endpoint)->note(std::move(event), events);
        }
        if (user_->on_progress())
            wake();
    }

    std::vector<wire_event> take_events() override { return std::exchange(events, {}); }
    void destroy() noexcept override { network->detach(number); }

    // For its connections.
    std::shared_ptr<loopback_network> network;
    std::uint64_t number;
    std::uint64_t round_bytes;
    std::map<endpoint_id, loopback_connection*> connections;
    std::vector<wire_event> events;

private:
    void take(const loopback_packet& packet) {
        if (packet.message)
            user_->arrived(*packet.message, packet.head, packet.payload);
        if (packet.tag != 0 || !packet.message)
            network->push(packet.from, wire_event{packet.message ? wire_event::kind::posted
                                                                 : wire_event::kind::flushed,
                                                  packet.over, packet.tag});
    }

    wire_user* user_ = nullptr;
};

loopback_connection::loopback_connection(loopback_wire& below, endpoint_id id, incarnation peer,
                                         std::uint64_t to)
    : below_(below), id_(id), peer_(peer), to_(to) {
    below_.connections.emplace(id, this);
}

loopback_connection::~loopback_connection() {
    below_.connections.erase(id_);
}

void loopback_connection::send(fabric_message what, byte_view head, byte_buffer payload,
                               std::uint64_t tag) {
    if (tag != 0)
        waiting_.push_back(tag);
    below_.network->push(to_, loopback_packet{.from = below_.number,
                                              .over = id_,
                                              .tag = tag,
                                              .message = what,
                                              .head = {head.begin(), head.end()},
                                              .payload = std::move(payload)});
}

void loopback_connection::flush(std::uint64_t tag) {
    below_.network->push(to_, loopback_packet{.from = below_.number, .over = id_, .tag = tag});
}

void loopback_connection::close(bool) {
    end(below_.events);
    below_.wake();
}

/// What waits at the target stays there, and may still land.
void loopback_connection::end(std::vector<wire_event>& to) {
    if (std::exchange(ended_, true))
        return;
    below_.network->disconnect(below_.number, id_, to_);
    for (auto tag : waiting_)
        to.push_back({wire_event::kind::posted, id_, tag});
    to.push_back({wire_event::kind::closed, id_});
}

wire_room loopback_connection::room() {
    const auto longest = std::min(piece_bytes_max, below_.round_bytes);
    return {.bytes = below_.round_bytes,
            .piece_bytes_max = longest,
            .bundle_bytes_max = longest,
            .bundle_stretches_max = bundle_stretches_max};
}

void loopback_connection::note(wire_event event, std::vector<wire_event>& to) {
    if (ended_)
        return;
    if (event.what == wire_event::kind::posted)
        waiting_.pop_front();
    const bool broken = event.what == wire_event::kind::broken;
    if (broken && !event.reason)
        event.reason = make_error(errc::link_lost, "the fabric of incarnation {} has ended", peer_);
    to.push_back(std::move(event));
    if (broken)
        end(to);
}

class loopback_io_state : public fabric_state {
public:
    static inline constexpr const char* name = "loopback_io";

    loopback_io_state(pointer self, const loopback_io_options& with)
        : fabric_state(self,
                       {.self = with.self,
                        .default_sink = with.default_sink,
                        .bounds = with.bounds,
                        .counters = with.counters},
                       std::make_unique<loopback_wire>(with.network, wired_fabric_actor{self},
                                                       with.bounds.copy_piece_bytes_max)) {}
    ~loopback_io_state() override { release(); }

    wired_fabric_actor::behavior_type make_behavior() { return behavior_of(this); }
};

} // namespace

caf::expected<wired_fabric_actor> spawn_loopback_io(caf::actor_system& system, placement where,
                                                    loopback_io_options with) {
    if (made_to_fail("loopback_io"))
        return make_error(errc::system_call_failed, "loopback_io: made to fail by a test");
    return spawn_at<wired_fabric_actor, loopback_io_state>(system, where, std::move(with));
}

} // namespace kvferry
