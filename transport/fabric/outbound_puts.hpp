// SPDX-License-Identifier: Apache-2.0
// The writer's half of puts: whose turn it is on each link, how far a put may go, and the one end
// of each. Pure.
//
// Every call leaves effects, which the fabric carries out in their order (take_effects).
#pragma once

#include "messages/errors.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/put_credit.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/planner/plan/merged_cursor.hpp"
#include "transport/turns/fair_turns.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

/// A put that has been checked. It is known by the fabric's own number from here on.
struct put_order {
    transfer_id id;
    endpoint_id over;
    copy_job job;
    kvferry::attempt attempt = {};
    put_credit credit;
    bool by_rma = false;
    /// start_put::report.
    byte_buffer report = {};
    flow of = {};
    /// start_put::sums.
    bool sums = false;
    /// When it was asked for, and how long the checks took.
    time_point began = {};
    std::chrono::nanoseconds posting{0};
};

/// Post this stretch; piece_over() is called when its memory is free again.
struct post_piece {
    endpoint_id over;
    std::uint64_t put = 0;
    plan_stretch where;
    kvferry::attempt attempt;
    bool by_rma = false;
    priority urgency = priority::normal;
    bool sums = false;
    /// Of the piece that is posted after it, if there is one: it may be fetched meanwhile.
    std::uint64_t next_source = 0;
};

/// Post these stretches as one message; a piece as well.
struct post_bundle {
    endpoint_id over;
    std::uint64_t put = 0;
    kvferry::attempt attempt;
    std::vector<plan_stretch> stretches = {};
    priority urgency = priority::normal;
    bool sums = false;
};

/// Tell the target where these stretches lie; a piece as well.
struct post_references {
    endpoint_id over;
    std::uint64_t put = 0;
    std::uint32_t region = 0;
    kvferry::attempt attempt;
    std::vector<referred_stretch> stretches;
};

struct ask_for_credit {
    endpoint_id over;
    std::uint64_t put = 0;
    put_credit::demand wanted;
    std::uint64_t source_region = not_shared;
    kvferry::attempt attempt;
};

/// Ask the target to confirm all pieces, or flush when they went by RMA.
struct post_end {
    endpoint_id over;
    std::uint64_t put = 0;
    std::uint64_t pieces = 0;
    /// One that the put writes.
    std::uint32_t region = 0;
    bool by_rma = false;
    /// Of a put that has posted all of its bytes: start_put::report.
    byte_buffer report = {};
    priority urgency = priority::normal;
};

/// The put is over; its answer but for the time of its end.
struct put_over {
    endpoint_id over;
    transfer_done done;
};

class outbound_puts {
public:
    using effect =
        std::variant<post_piece, post_bundle, post_references, ask_for_credit, post_end, put_over>;

    /// `pieces_max`: pieces of a link that may be under way.
    explicit outbound_puts(std::size_t pieces_max) : pieces_max_(pieces_max) {}

    void open(endpoint_id, incarnation peer);
    /// No put is left on it.
    void close(endpoint_id);
    /// Ends what is under way as soon as its memory is free; nothing more is posted.
    void fail(endpoint_id, caf::error reason);
    bool has_puts(endpoint_id id) const { return !links_.at(id).puts.empty(); }

    /// Puts that wait for credit.
    std::size_t parked() const { return parked_; }

    bool knows(transfer_id id) const { return numbers_.contains(id); }
    void start(put_order);

    /// Links that have something to post.
    std::vector<endpoint_id> posting() const { return {posting_.begin(), posting_.end()}; }
    bool is_posting(endpoint_id id) const { return posting_.contains(id); }
    /// One of its puts of this class has something to post.
    bool has_turns(endpoint_id id, priority x) const { return links_.at(id).turns.size(x) > 0; }
    /// Posts as much as `room` and the window allow: of all puts of the link, or of one class where
    /// that has a way of its own. True: there may be more.
    bool post(endpoint_id, const wire_room&, time_point now, std::optional<priority> only = {});

    void piece_over(endpoint_id, std::uint64_t put);
    /// A flush has ended.
    void flushed(std::uint64_t put);
    /// `damaged`: with written_as::damaged.
    void written(const written_head&, const std::string& text,
                 const std::optional<damaged_bytes>& damaged = {});
    /// False: the put has ended already, and the credit is to be given back.
    bool credit(const credit_head&, const std::string& text);

    /// Posts nothing more; pieces already posted still have to end.
    void cancel(transfer_id, caf::error why);
    void cancel_all(const caf::error& why);

    /// Answers what is left: the fabric has ended.
    void abandon(const caf::error& why);

    recycled_vector<effect> take_effects() { return std::exchange(effects_, {}); }

private:
    enum class put_phase : std::uint8_t {
        /// In its link's turns.
        posting,
        /// Waits for credit, out of turn.
        parked,
        /// Nothing is left to post but the end.
        posted,
        /// The end is posted as well.
        ended
    };
    struct put {
        put_order order;
        merged_cursor cursor = {};
        put_phase phase = put_phase::posting;
        std::uint64_t pieces = 0;
        /// Pieces whose memory the wire may still read.
        std::size_t open = 0;
        /// What the target says of all pieces, or a flush.
        std::optional<written_as> told = {};
        /// Why it fails; none so far.
        caf::error failure = {};
        std::optional<damaged_bytes> damaged = {};
    };
    struct link {
        incarnation peer;
        recycled_set<std::uint64_t> puts = {};
        /// Those that post; whose turn lasts, and its bytes so far.
        fair_turns turns = {};
        std::optional<std::uint64_t> holder = {};
        std::uint64_t turn_bytes = 0;
        std::size_t pieces = 0;
        /// Why it failed; none so far.
        caf::error failure = {};
    };

    void enter(put&, put_phase);
    void join_turns(link&, std::uint64_t number, const flow&);
    void leave_turns(link&, std::uint64_t number);
    static std::optional<std::uint64_t> next_of(link&, std::optional<priority> only);
    static void pass_turn(link&);
    std::uint64_t post_next(std::uint64_t number, put&, const wire_room&);
    std::uint64_t post_bundled(std::uint64_t number, put&, const wire_room&);
    std::uint64_t refer_next(std::uint64_t number, put&);
    void count_piece(put&, time_point now);
    void give_up(std::uint64_t number, caf::error why);
    void advance(std::uint64_t number);
    void finish(std::uint64_t number, agent_result);

    std::size_t pieces_max_;
    std::map<endpoint_id, link> links_;
    recycled_set<endpoint_id> posting_;
    recycled_map<std::uint64_t, put> puts_;
    recycled_map<transfer_id, std::uint64_t> numbers_;
    recycled_vector<effect> effects_;
    std::uint64_t last_put_ = 0;
    std::size_t parked_ = 0;
};

} // namespace kvferry
