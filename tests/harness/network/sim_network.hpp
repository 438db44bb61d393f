// SPDX-License-Identifier: Apache-2.0
// The wires between simulated processes. On each wire bytes stay in order, but they may be late,
// held up, or lost with their connection, and they may arrive after their sender has given up or
// died.
//
// Never kinder than what transport/MEASURED.md has measured.
#pragma once

#include "messages/wire/codec.hpp"
#include "tests/harness/network/doorbell.hpp"
#include "tests/harness/network/read_frame.hpp"
#include "tests/harness/sim_schedule.hpp"
#include "transport/fabric/fabric_messages.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

namespace kvferry::harness {

/// A message that one process's fabric sends to another's.
struct wire_item {
    fabric_message what = fabric_message::frame;
    incarnation from;
    byte_buffer head = {};
    byte_buffer bytes = {};
    /// What its frame says, if somebody has read it (on_sent).
    read_frame said = {};
};

/// A process's end of the network.
class fabric_port {
public:
    virtual ~fabric_port() = default;
    virtual void arrived(const wire_item&) = 0;
    /// The connections to that process up to number `last` are broken.
    virtual void connection_lost(incarnation peer, std::uint64_t last) = 0;
    /// False: a broken connection would be reported to nobody.
    virtual bool has_endpoint_to(incarnation peer) const = 0;
};

/// Probabilities and times of one simulation.
struct network_temper {
    std::chrono::microseconds latency_min{1};
    std::chrono::microseconds latency_max{100};
    /// Frames that arrive twice, the second time later.
    unsigned duplicate_percent = 0;
    /// Frames that overtake the one before them.
    unsigned overtake_percent = 0;
    /// Lost confirmations of puts.
    unsigned lost_completion_percent = 0;
    /// Messages with bytes of pages in which one bit flips on the way.
    unsigned flipped_percent = 0;
    /// What a dead process had sent is read only after its pidfd has fired.
    bool late_last_words = false;
    /// How long a fabric is busy with other things before it shuts an attempt out.
    std::chrono::microseconds shut_out_max{0};
    /// Bytes of puts come into place so much later than it was asked whether they may, as where
    /// another thread reads them; 0: at once.
    std::chrono::microseconds read_apart_max{0};
};

class sim_network {
public:
    sim_network(sim_schedule& schedule, network_temper temper);

    const network_temper& temper() const { return temper_; }

    // -- for the fabric's twin ---------------------------------------------------------------

    void attach(incarnation, fabric_port*, doorbell*);
    /// Sends over that connection; by default over the newest.
    void send(incarnation to, wire_item, std::optional<std::uint64_t> connection = {});
    /// An endpoint was opened. Returns the number of its connection. If `to` is not there, the
    /// opener is told later.
    std::uint64_t connect(incarnation from, incarnation to);

    /// The actor behind that bell runs `what` after that time.
    void after(std::chrono::nanoseconds wait, doorbell& bell, std::function<void()> what) {
        schedule_->at(schedule_->now() + wait,
                      [&bell, what = std::move(what)] { bell.push(what); });
    }

    // -- for the simulation ------------------------------------------------------------------

    /// Nothing passes until heal(); items on their way wait.
    void cut(incarnation a, incarnation b);
    void heal(incarnation a, incarnation b);
    void heal_all();
    /// Nothing passes until heal(), and nobody is told, until an end's keepalive gives the
    /// connection up: each end by itself, or after the healing, when it finds out that the other
    /// end has.
    void silence(incarnation a, incarnation b);
    /// The connection breaks. The two ends are told at different times, and some items on their way
    /// are lost.
    void reset(incarnation a, incarnation b);
    /// The process has ended. Every process with an endpoint to it is told. What it sent still
    /// arrives.
    void die(incarnation);
    /// Delivers a frame that nobody sent now, for instance an old one.
    void inject(incarnation from, incarnation to, byte_buffer frame);
    /// From now on the network is fast and loses nothing.
    void calm();
    /// The latest time at which an end is told of a connection broken so far.
    time_point last_notice() const { return last_notice_; }
    bool is_dead(incarnation x) const { return dead_.contains(x); }
    bool is_cut(incarnation a, incarnation b) const { return cut_.contains(pair_of(a, b)); }
    /// A connection between them broke while both lived.
    bool has_broken(incarnation a, incarnation b) const { return broken_.contains(pair_of(a, b)); }
    bool has_broken() const { return !broken_.empty(); }
    /// The two will give each other up, though nothing is wrong with the connection itself.
    void note_broken(incarnation a, incarnation b) { broken_.insert(pair_of(a, b)); }
    /// Pairs between which a confirmation of a put was lost for ever.
    const std::set<std::pair<incarnation, incarnation>>& lossy() const { return lossy_; }

    /// Called for every frame, when it is sent and when it is delivered.
    std::function<read_frame(incarnation from, incarnation to, byte_view frame)> on_sent;
    /// Called when a piece of a put is sent.
    std::function<void()> on_write;
    std::function<void(incarnation to, byte_view frame, const read_frame& said)> on_delivered;

    std::uint64_t frames() const { return frames_; }

    /// Carries a message outside the fabric: questions to rank-info servers. It waits while the
    /// network is cut, and is lost when `to` is dead.
    void carry(incarnation from, incarnation to, std::function<void()> what);

    /// Calls `what` when the connection to a process breaks because that process dies.
    void when_dead(incarnation, std::function<void()> what);

private:
    using pair = std::pair<incarnation, incarnation>;
    using sent_item = std::shared_ptr<const wire_item>;
    static pair pair_of(incarnation a, incarnation b) { return a < b ? pair{a, b} : pair{b, a}; }

    /// One direction between two processes.
    struct wire {
        time_point last_arrival;
        /// The newest connection. Endpoints opened before a reset use a former one.
        std::uint64_t connection = 0;
        /// Former connections, and the time after which their items are lost.
        std::map<std::uint64_t, time_point> broken;
        /// The same for all connections of a dead sender.
        time_point lost_after = time_point::max();
        /// With a dead sender: the kernels' data is not read before this time.
        time_point not_before;
        /// Waits for heal(); each with its connection.
        std::vector<std::pair<sent_item, std::uint64_t>> held;
    };
    struct end_of_process {
        fabric_port* port = nullptr;
        doorbell* bell = nullptr;
    };

    /// The connections to both directions' peers when a silence began.
    struct silent_pair {
        std::uint64_t out = 0;
        std::uint64_t in = 0;
        bool told = false;
    };
    void deliver(incarnation to, const sent_item&, std::uint64_t connection);
    void give_up(incarnation who, incarnation peer);
    void break_line(incarnation from, incarnation to, std::uint64_t connection);
    void hand_over(incarnation to, const sent_item&);
    void tell_lost(incarnation who, incarnation peer, std::chrono::microseconds wait,
                   std::uint64_t last = ~std::uint64_t{0});
    std::chrono::microseconds latency();

    sim_schedule* schedule_;
    network_temper temper_;
    random_source random_;
    std::map<incarnation, end_of_process> ends_;
    std::map<pair, wire> wires_;
    std::set<pair> cut_;
    std::set<pair> broken_;
    /// Silent pairs, by the end that will notice.
    std::map<pair, silent_pair> silent_;
    std::set<pair> lossy_;
    std::set<incarnation> dead_;
    std::map<pair, std::vector<std::function<void()>>> carried_;
    std::map<incarnation, std::vector<std::function<void()>>> mourners_;
    std::uint64_t frames_ = 0;
    time_point last_notice_;
};

} // namespace kvferry::harness
