// SPDX-License-Identifier: Apache-2.0
// The simulated network as a wire: pieces leave one by one, at times drawn from the seed.
#include "tests/harness/network/sim_io.hpp"

#include "tests/harness/planted_bug.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <cstring>
#include <map>
#include <memory>
#include <utility>

namespace kvferry::harness {

namespace {

using std::chrono::microseconds;

constexpr std::string_view address_label = "simulated address";
constexpr microseconds between_pieces_max{40};

class sim_wire;

class sim_connection final : public wire_connection {
public:
    sim_connection(sim_wire& below, endpoint_id id, incarnation peer);
    ~sim_connection() override;

    void send(fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag) override;
    bool send_from(fabric_message, byte_view head, byte_view payload, std::uint64_t tag) override;
    bool send_gathered(fabric_message, byte_view head, std::span<const byte_view> payload,
                       std::uint64_t tag) override;
    void flush(std::uint64_t tag) override;
    void close(bool force) override;
    wire_room room() override;

    void broken(caf::error reason);

    incarnation peer;
    /// Its number in the network.
    std::uint64_t number;

private:
    friend class sim_wire;

    void end();

    sim_wire& below_;
    endpoint_id id_;
    bool ended_ = false;
    /// When the next piece leaves has been drawn, and has come.
    bool waits_ = false;
    bool due_ = false;
};

class sim_wire final : public wire, public fabric_port {
public:
    explicit sim_wire(sim_io_state::dependencies with)
        : with(std::move(with)), random(this->with.seed) {
        this->with.network->attach(this->with.self, this, this->with.bell);
    }

    void start(wire_user& x) override { user = &x; }
    byte_buffer address() const override { return sim_address(with.self); }
    std::string transports() const override { return "simulated"; }
    std::string_view key_label() const override { return "simulated access key"; }

    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation, byte_view address,
                                                            endpoint_id id) override {
        auto peer = unseal_value<std::uint64_t>(address_label, address);
        if (!peer)
            return make_error(errc::dial_failed, text_of(peer.error()));
        return std::unique_ptr<wire_connection>{
            std::make_unique<sim_connection>(*this, id, incarnation{*peer})};
    }

    caf::expected<byte_buffer> map(region_id, const register_region&) override {
        if (!with.failing_registrations || *with.failing_registrations == 0)
            return byte_buffer{};
        --*with.failing_registrations;
        return make_error(errc::registration_failed, "the simulation lets this registration fail");
    }

    std::vector<wire_event> take_events() override { return std::exchange(events, {}); }

    void progress() override {
        with.bell->answer();
        go_on();
        // Nobody had a piece: the next one waits for a time of its own.
        if (auto found = connections.find(due); found != connections.end())
            found->second->due_ = false;
        due = {};
    }

    void destroy() noexcept override { with.network->attach(with.self, nullptr, with.bell); }

    void arrived(const wire_item& item) override {
        if (!reads_apart(item))
            user->arrived(item.what, item.head, item.bytes);
    }

    void connection_lost(incarnation peer, std::uint64_t last) override {
        for (const auto& [id, x] : connections)
            if (x->peer == peer && x->number <= last)
                x->broken(make_error(errc::link_lost,
                                     "connection to incarnation " + to_string(peer) + " reset"));
    }

    bool has_endpoint_to(incarnation peer) const override {
        return std::any_of(connections.begin(), connections.end(),
                           [peer](const auto& x) { return x.second->peer == peer; });
    }

    /// False: it is no message with bytes of pages, or they are refused.
    bool reads_apart(const wire_item& item) {
        const auto longest = with.network->temper().read_apart_max;
        if (longest.count() == 0)
            return false;
        auto where = user->land(item.what, item.head, item.bytes.size());
        if (!user->may_land(item.what, item.head, where))
            return false;
        const auto number = user->read_begins(where);
        after(random.between(microseconds{0}, longest),
              [this, number, where = std::move(where), bytes = item.bytes]() mutable {
                  const auto* from = bytes.data();
                  for (const auto& place : where.places) {
                      std::memcpy(place.data(), from, place.size());
                      from += place.size();
                  }
                  user->read_ended(number);
                  user->landed(std::move(where));
                  go_on();
              });
        return true;
    }

    // For its connections.

    /// A piece of that one may leave in this turn.
    void come_due(endpoint_id id) {
        auto found = connections.find(id);
        if (found == connections.end())
            return;
        found->second->waits_ = false;
        found->second->due_ = true;
        due = id;
    }
    /// Once more when something was sent or has happened, which may have made room for more.
    void go_on() {
        do
            stirred = false;
        while (user->on_progress() && stirred);
    }
    void after(microseconds wait, std::function<void()> what) {
        with.network->after(wait, *with.bell, std::move(what));
    }
    void report(wire_event event) {
        stirred = true;
        events.push_back(std::move(event));
        with.bell->push([] {}); // progress() follows
    }

    sim_io_state::dependencies with;
    random_source random;
    wire_user* user = nullptr;
    std::map<endpoint_id, sim_connection*> connections;
    std::vector<wire_event> events;
    bool stirred = false;
    endpoint_id due;
    /// Held by the wire alone: what the network carries for it may outlive it.
    const std::shared_ptr<const void> alive = std::make_shared<char>();
};

sim_connection::sim_connection(sim_wire& below, endpoint_id id, incarnation to)
    : peer(to), number(below.with.network->connect(below.with.self, to)), below_(below), id_(id) {
    below_.connections.emplace(id, this);
}

sim_connection::~sim_connection() {
    below_.connections.erase(id_);
}

void sim_connection::send(fabric_message what, byte_view head, byte_buffer payload, std::uint64_t) {
    below_.stirred = true;
    below_.with.network->send(
        peer, wire_item{what, below_.with.self, {head.begin(), head.end()}, std::move(payload)},
        number);
}

bool sim_connection::send_from(fabric_message what, byte_view head, byte_view payload,
                               std::uint64_t tag) {
    if (below_.with.on_read)
        below_.with.on_read(reinterpret_cast<std::uint64_t>(payload.data()));
    send(what, head, {payload.begin(), payload.end()}, tag);
    return true;
}

bool sim_connection::send_gathered(fabric_message what, byte_view head,
                                   std::span<const byte_view> payload, std::uint64_t tag) {
    if (below_.with.on_read)
        for (const auto& part : payload)
            below_.with.on_read(reinterpret_cast<std::uint64_t>(part.data()));
    (void)wire_connection::send_gathered(what, head, payload, tag);
    return true;
}

/// The peer takes what was sent. It is not told of the end.
void sim_connection::flush(std::uint64_t tag) {
    below_.with.network->carry(
        below_.with.self, peer,
        [&below = below_, alive = std::weak_ptr{below_.alive}, id = id_, tag] {
            if (!alive.expired())
                below.report({wire_event::kind::flushed, id, tag});
        });
}

void sim_connection::close(bool) {
    end();
}

void sim_connection::broken(caf::error reason) {
    if (ended_)
        return;
    below_.report({wire_event::kind::broken, id_, 0, std::move(reason)});
    end();
}

void sim_connection::end() {
    if (!std::exchange(ended_, true))
        below_.report({wire_event::kind::closed, id_});
}

wire_room sim_connection::room() {
    auto& random = below_.random;
    if (std::exchange(due_, false)) {
        const auto longest = random.between(1, below_.with.bounds.copy_piece_bytes_max);
        return {.bytes = 1,
                .piece_bytes_max = longest,
                .turn_bytes_max = 1,
                .bundle_bytes_max = longest,
                .bundle_stretches_max = random.between(0, 4)};
    }
    if (!std::exchange(waits_, true))
        below_.after(random.between(microseconds{0}, between_pieces_max),
                     [&below = below_, id = id_] { below.come_due(id); });
    return {.bytes = 0};
}

} // namespace

byte_buffer sim_address(incarnation process) {
    return seal_value(address_label, process.value);
}

sim_io_state::sim_io_state(pointer self, dependencies with)
    : fabric_state(
        self,
        {.self = with.self,
         .default_sink = with.default_sink,
         .bounds = with.bounds,
         .draw = [secrets = random_source{~with.seed}]() mutable { return secrets.next(); }},
        std::make_unique<sim_wire>(with)),
      network_(with.network), random_(with.seed + 1) {
    with.bell->attach(wired_fabric_actor{self});
}

caf::result<void> sim_io_state::on_forbid_writes(const forbid_writes& message) {
    if (planted(planted_bug::forbidden_attempt_written))
        return {};
    if (planted(planted_bug::read_apart_not_awaited)) {
        inbound_.forbid(message.attempt);
        return {};
    }
    const auto longest = network_->temper().shut_out_max;
    if (longest.count() == 0)
        return fabric_state::on_forbid_writes(message);
    auto shut_out = self_->make_response_promise<answer>();
    self_->run_delayed(random_.between(microseconds{0}, longest),
                       [this, over = message.attempt, shut_out]() mutable {
                           inbound_.forbid(over);
                           shut_out.deliver();
                       });
    return shut_out;
}

} // namespace kvferry::harness
