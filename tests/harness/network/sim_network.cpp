// SPDX-License-Identifier: Apache-2.0
// When sent items arrive, and when they are lost.
#include "tests/harness/network/sim_network.hpp"

#include "tests/harness/planted_bug.hpp"

namespace kvferry::harness {

using std::chrono::microseconds;

namespace {

/// An end gives a silent connection up after a time in between.
constexpr microseconds keepalive_min{3000};
constexpr microseconds keepalive_max{9000};

bool carries_pages(const wire_item& item) {
    return (item.what == fabric_message::write || item.what == fabric_message::bundle)
           && !item.bytes.empty();
}

/// The frame that the end of a put brings.
byte_view report_in(const wire_item& item) {
    const auto head = item.what == fabric_message::reported_end
                          ? read_head<reported_end_head>(item.head)
                          : std::nullopt;
    return head ? byte_view{item.bytes}.first(head->report_bytes) : byte_view{};
}

} // namespace

sim_network::sim_network(sim_schedule& schedule, network_temper temper)
    : schedule_(&schedule), temper_(temper), random_(schedule.random().fork()) {}

microseconds sim_network::latency() {
    return random_.between(temper_.latency_min, temper_.latency_max);
}

void sim_network::attach(incarnation who, fabric_port* port, doorbell* bell) {
    ends_[who] = {port, bell};
}

std::uint64_t sim_network::connect(incarnation from, incarnation to) {
    if (is_dead(to) || !ends_.contains(to))
        tell_lost(from, to, random_.between(microseconds{500}, microseconds{5000}));
    return wires_[{from, to}].connection;
}

void sim_network::send(incarnation to, wire_item item, std::optional<std::uint64_t> over) {
    const auto from = item.from;
    const auto is_frame = item.what == fabric_message::frame;
    if (is_frame) {
        ++frames_;
        if (on_sent)
            item.said = on_sent(from, to, item.bytes);
    }
    if (const auto report = report_in(item); !report.empty() && on_sent)
        item.said = on_sent(from, to, report);
    if (item.what == fabric_message::write && on_write)
        on_write();
    if (carries_pages(item) && temper_.flipped_percent > 0
        && random_.percent(temper_.flipped_percent)) {
        const auto bit = random_.below(item.bytes.size() * 8);
        item.bytes[bit / 8] ^= static_cast<caf::byte>(1 << bit % 8);
        schedule_->log("bit flipped", from.value, to.value);
    }
    if (item.what == fabric_message::written && random_.percent(temper_.lost_completion_percent)) {
        lossy_.insert(pair_of(from, to));
        schedule_->log("completion lost", from.value, to.value);
        return;
    }
    auto& line = wires_[{from, to}];
    auto arrival = std::max(line.last_arrival, schedule_->now() + latency());
    line.last_arrival = arrival;
    const auto connection = over.value_or(line.connection);
    auto copies = is_frame && random_.percent(temper_.duplicate_percent) ? 2 : 1;
    if (is_frame && random_.percent(temper_.overtake_percent))
        arrival += latency() * 4; // later frames overtake it
    const sent_item sent = std::make_shared<const wire_item>(std::move(item));
    for (int copy = 0; copy < copies; ++copy, arrival += latency())
        schedule_->at(arrival, [this, to, sent, connection] { deliver(to, sent, connection); });
}

void sim_network::deliver(incarnation to, const sent_item& item, std::uint64_t connection) {
    auto& line = wires_[{item->from, to}];
    const auto broken = line.broken.find(connection);
    if (schedule_->now() > line.lost_after || is_dead(to)
        || (broken != line.broken.end() && schedule_->now() > broken->second))
        return;
    if (schedule_->now() < line.not_before) {
        schedule_->at(line.not_before,
                      [this, to, item, connection] { deliver(to, item, connection); });
        return;
    }
    if (is_cut(item->from, to))
        line.held.emplace_back(item, connection);
    else
        hand_over(to, item);
}

void sim_network::hand_over(incarnation to, const sent_item& item) {
    auto end = ends_.find(to);
    if (end == ends_.end() || !end->second.port)
        return;
    schedule_->log("arrives", item->from.value,
                   to.value * 8 + static_cast<std::uint64_t>(item->what));
    end->second.bell->push([this, port = end->second.port, to, item] {
        if (item->what == fabric_message::frame && on_delivered)
            on_delivered(to, item->bytes, item->said);
        else if (const auto report = report_in(*item); !report.empty() && on_delivered)
            on_delivered(to, report, item->said);
        port->arrived(*item);
    });
}

void sim_network::carry(incarnation from, incarnation to, std::function<void()> what) {
    schedule_->after(latency(), [this, from, to, what = std::move(what)] {
        if (is_cut(from, to))
            carried_[pair_of(from, to)].push_back(what);
        else
            what();
    });
}

void sim_network::when_dead(incarnation who, std::function<void()> what) {
    mourners_[who].push_back(std::move(what));
}

// -- faults -------------------------------------------------------------------------------------

void sim_network::cut(incarnation a, incarnation b) {
    cut_.insert(pair_of(a, b));
}

void sim_network::heal(incarnation a, incarnation b) {
    if (cut_.erase(pair_of(a, b)) == 0)
        return;
    for (auto [from, to] : {pair{a, b}, pair{b, a}})
        for (auto& [item, connection] : std::exchange(wires_[{from, to}].held, {}))
            if (!is_dead(to))
                hand_over(to, item);
    // An end that has not given up itself hears that the other one has.
    const auto here = silent_.extract(pair{a, b});
    const auto there = silent_.extract(pair{b, a});
    if (here && there && here.mapped().told != there.mapped().told) {
        const auto& late = here.mapped().told ? there : here;
        tell_lost(late.key().first, late.key().second,
                  random_.between(microseconds{0}, microseconds{3000}), late.mapped().out);
    }
    for (auto& what : std::exchange(carried_[pair_of(a, b)], {}))
        what();
}

void sim_network::heal_all() {
    for (auto [a, b] : std::set{cut_})
        heal(a, b);
}

void sim_network::silence(incarnation a, incarnation b) {
    cut(a, b);
    for (auto [who, peer] : {pair{a, b}, pair{b, a}}) {
        silent_[{who, peer}] = {wires_[{who, peer}].connection, wires_[{peer, who}].connection};
        schedule_->after(random_.between(keepalive_min, keepalive_max),
                         [this, who, peer] { give_up(who, peer); });
    }
}

/// What this end's connections carried is lost, both ways; it is the only one that knows.
void sim_network::give_up(incarnation who, incarnation peer) {
    auto found = silent_.find({who, peer});
    if (found == silent_.end() || !is_cut(who, peer) || is_dead(who) || is_dead(peer))
        return;
    broken_.insert(pair_of(who, peer));
    found->second.told = true;
    break_line(who, peer, found->second.out);
    break_line(peer, who, found->second.in);
    tell_lost(who, peer, microseconds{0}, found->second.out);
}

void sim_network::break_line(incarnation from, incarnation to, std::uint64_t connection) {
    auto& line = wires_[{from, to}];
    line.broken[connection] = schedule_->now();
    std::erase_if(line.held, [&](const auto& item) { return item.second <= connection; });
    line.connection = std::max(line.connection, connection + 1);
}

void sim_network::reset(incarnation a, incarnation b) {
    broken_.insert(pair_of(a, b));
    for (auto [from, to] : {pair{a, b}, pair{b, a}}) {
        // Data that the kernel of `to` already has is still read, perhaps after the error is
        // reported.
        auto wait = random_.between(microseconds{0}, microseconds{3000});
        auto& line = wires_[{from, to}];
        line.broken[line.connection] = schedule_->now() + wait;
        line.held.clear();
        tell_lost(to, from, random_.between(microseconds{0}, wait), wires_[{to, from}].connection);
    }
    ++wires_[{a, b}].connection; // for endpoints that are opened from now on
    ++wires_[{b, a}].connection;
}

void sim_network::tell_lost(incarnation who, incarnation peer, microseconds wait,
                            std::uint64_t last) {
    last_notice_ = std::max(last_notice_, schedule_->now() + wait);
    schedule_->after(wait, [this, who, peer, last] {
        auto end = ends_.find(who);
        if (end == ends_.end() || !end->second.port || is_dead(who))
            return;
        schedule_->log("connection lost", who.value, peer.value);
        end->second.bell->push(
            [port = end->second.port, peer, last] { port->connection_lost(peer, last); });
    });
}

void sim_network::die(incarnation dead) {
    dead_.insert(dead);
    for (auto& [who, end] : ends_) {
        if (who == dead)
            continue;
        auto wait = random_.between(microseconds{1000}, microseconds{20000});
        if (temper_.late_last_words)
            wait = microseconds{20'000};
        if (end.port && !is_dead(who) && end.port->has_endpoint_to(dead))
            tell_lost(who, dead, random_.between(microseconds{1000}, wait));
        auto& line = wires_[{dead, who}];
        line.lost_after = schedule_->now() + wait;
        line.not_before =
            schedule_->now()
            + random_.between(temper_.late_last_words ? microseconds{10'000} : microseconds{0},
                              wait);
    }
    for (auto& what : std::exchange(mourners_[dead], {}))
        schedule_->after(random_.between(microseconds{1000}, microseconds{20000}), std::move(what));
    ends_.erase(dead);
}

void sim_network::inject(incarnation from, incarnation to, byte_buffer frame) {
    hand_over(
        to, std::make_shared<const wire_item>(wire_item{.from = from, .bytes = std::move(frame)}));
}

void sim_network::calm() {
    temper_ = {};
    heal_all();
}

} // namespace kvferry::harness
