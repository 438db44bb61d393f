// SPDX-License-Identifier: Apache-2.0
// What a rank counts: sessions, bytes by route, times by stage, retries, messages that it ignored
// or refused, failures. Its actors count where something happens; statistics and metrics read.
//
// An update is one or two relaxed additions: no lock, and nothing to look up.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace/duration_histogram.hpp"
#include "messages/trace/span_queue.hpp"
#include "messages/values/priority.hpp"
#include "messages/values/route.hpp"
#include "messages/values/session_state.hpp"
#include "messages/wire/header.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace kvferry {

enum class ignored : std::uint8_t {
    /// Heard before: a replayed frame or request, a second report of one piece.
    duplicate,
    /// Numbered by a former link of the same two ranks, or answers a former dial.
    former_link,
    /// For or of a former incarnation.
    stale_incarnation,
    /// About a request, before the link's handshake was done.
    early,
    /// After the end of the link or session that it is for.
    late,
    /// A valid message that does not belong between two ranks.
    unexpected,
    /// Its link has ended meanwhile.
    no_link,
    /// No session of that rid or attempt.
    no_session,
    /// From a rank outside the session's cohorts, or in another rank's name.
    foreign_rank,
    /// Of an attempt other than the bound one.
    foreign_attempt,
    /// A report about a slice that its writer was not asked for.
    unasked,
    /// A report that contradicts earlier ones.
    contradiction,
    /// For a session that died.
    session_died,
    /// Bytes of a put whose attempt, region or writer may not write here (any more).
    refused_bytes,
    /// An introduction to a rank whose last links end.
    early_introduction,
    /// The end of an endpoint that no link owns.
    endpoint_failed,
    /// A message that only newer releases know.
    unknown_message,
};

/// What sender and receiver count of their sessions; each session is counted once per line.
enum class session_count : std::uint8_t {
    opened,
    /// It has its outcome.
    ended,
    /// Its pages are released; it is not in the table any more.
    forgotten,
};

/// What the time of a session goes to. The context side knows them all; the generation side knows
/// its wait for the peer, the release and the session as a whole.
enum class stage : std::uint8_t {
    /// Context: from the opening to the first request. Generation: from the first request to the
    /// first word that a writer has begun.
    wait_for_peer,
    /// One piece: its plan, the checks, the choice of a route.
    plan,
    /// One piece: until its executor takes it up.
    queue,
    /// One piece: from its first byte to its last.
    copy,
    /// One piece: from its last byte until the session hears of it, and reports it.
    report,
    /// From the outcome until the pages are free.
    release,
    /// From the opening to the outcome.
    whole,
};

/// What is tried again.
enum class retried : std::uint8_t {
    /// A link to a peer that there was one to before.
    link,
    /// A request that was sent before.
    request,
    /// The rank's introduction to its instance.
    registration,
};

/// How far a rank is.
enum class rank_phase : std::uint8_t { starting, published, draining, stopping, lost };

inline constexpr std::array phase_names{"starting", "published", "draining", "stopping", "lost"};

inline constexpr std::size_t side_count = 2;
inline constexpr std::size_t state_count = static_cast<std::size_t>(session_state::cancelled) + 1;
inline constexpr std::size_t errc_count = static_cast<std::size_t>(errc_last) + 1;
inline constexpr std::size_t stage_count = 7;
inline constexpr std::size_t retried_count = 3;

class rank_counters {
public:
    using number = std::atomic<std::uint64_t>;
    /// May be below zero between two updates of two threads.
    using gauge = std::atomic<std::int64_t>;

    /// `rank`: "context/0", for lines of the log.
    explicit rank_counters(std::string rank = {})
        : rank_(std::make_shared<const std::string>(std::move(rank))) {}

    const std::string& rank() const { return *rank_; }
    const std::shared_ptr<const std::string>& shared_rank() const { return rank_; }

    /// Where sessions go that have ended; null: nowhere. Set before the rank's actors run.
    std::shared_ptr<span_queue> spans;

    /// The entry of an enumerator.
    template <class Table, class Index>
    static auto& at(Table& table, Index index) {
        return table[static_cast<std::size_t>(index)];
    }

    /// What is counted for each side.
    struct of_side {
        /// By session_count.
        std::array<number, 3> sessions{};
        /// By the reason of the end; `none`: success.
        std::array<number, errc_count> ended{};
        /// Requests that this rank refused to a peer.
        std::array<number, errc_count> refused{};
        /// Sessions that are not forgotten, by state.
        std::array<gauge, state_count> states{};
        std::array<number, route_count> pieces{};
        std::array<number, route_count> bytes{};
        std::array<number, route_count> fragments{};
        /// By priority.
        std::array<number, priorities.size()> class_pieces{};
        std::array<number, priorities.size()> class_bytes{};
        std::array<duration_histogram, stage_count> stages{};
        /// Slices whose slots a session may use, and the bytes of these slots.
        gauge loans{0};
        gauge loan_bytes{0};
        /// Those of sessions that have their outcome: proof is missing.
        gauge quarantined_bytes{0};
    };

    of_side& of(side which) { return sides_[static_cast<std::size_t>(which)]; }
    const of_side& of(side which) const { return sides_[static_cast<std::size_t>(which)]; }

    void add(side where, session_count what) { add_one(at(of(where).sessions, what)); }
    std::uint64_t sessions(side where, session_count what) const {
        return of(where).sessions[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
    }
    /// Of both sides.
    std::uint64_t sessions(session_count what) const {
        return sessions(side::context, what) + sessions(side::generation, what);
    }

    void refused(side where, errc why) { add_one(at(of(where).refused, why)); }

    void piece(side where, route way, std::uint64_t bytes, std::uint64_t fragments) {
        auto& side = of(where);
        add_one(at(side.pieces, way));
        at(side.bytes, way).fetch_add(bytes, std::memory_order_relaxed);
        at(side.fragments, way).fetch_add(fragments, std::memory_order_relaxed);
    }

    void piece(side where, priority urgency, std::uint64_t bytes) {
        auto& side = of(where);
        add_one(at(side.class_pieces, urgency));
        at(side.class_bytes, urgency).fetch_add(bytes, std::memory_order_relaxed);
    }

    void took(side where, stage what, std::chrono::nanoseconds time, const request_trace& by = {}) {
        of(where).stages[static_cast<std::size_t>(what)].add(time, by);
    }

    void add(ignored why, std::uint64_t times = 1) {
        at(counts_, why).fetch_add(times, std::memory_order_relaxed);
    }
    /// A frame that is not one of our messages, or a peer that is not who it should be.
    void ignore(errc why) { add_one(at(ignored_errors_, why)); }

    void add(retried what) { add_one(at(retries_, what)); }
    std::uint64_t retries(retried what) const {
        return retries_[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
    }

    /// An outcome. The times of a session that succeeded: to its first piece, and from there on.
    void ended(side where, errc why, std::chrono::nanoseconds waited,
               std::chrono::nanoseconds transferred) {
        add_one(at(of(where).ended, why));
        if (why != errc::none)
            return;
        waited_.fetch_add(waited.count(), std::memory_order_relaxed);
        transferred_.fetch_add(transferred.count(), std::memory_order_relaxed);
    }

    /// Of both sides; errc::none: those that succeeded.
    std::uint64_t outcomes(errc why) const {
        const auto in = [this, why](side where) {
            return of(where).ended[static_cast<std::size_t>(why)].load(std::memory_order_relaxed);
        };
        return in(side::context) + in(side::generation);
    }
    std::chrono::nanoseconds waited() const { return std::chrono::nanoseconds{waited_.load()}; }
    std::chrono::nanoseconds transferred() const {
        return std::chrono::nanoseconds{transferred_.load()};
    }

    /// Bytes that siblings have handed on to this rank instead of the context.
    number relayed_bytes{0};
    /// Sessions that asked the context after a sibling had failed them.
    number relays_given_up{0};
    /// Sessions, links, senders and receivers that died.
    number actors_died{0};
    /// Handlers and callbacks of the host that threw.
    number handler_failures{0};
    /// Links that are not lost.
    gauge links{0};
    /// Puts through the fabric that have not ended, and those of them that wait for the target's
    /// credit.
    gauge puts{0};
    gauge puts_without_credit{0};
    std::atomic<rank_phase> phase{rank_phase::starting};

    /// Adds the ignored messages to a table by reason, without those that are 0.
    void add_to(std::map<std::string, std::uint64_t>& named) const {
        for (std::size_t index = 0; index < names.size(); ++index)
            if (const auto count = counts_[index].load(std::memory_order_relaxed))
                named[names[index]] += count;
        for (std::size_t index = 0; index < errc_count; ++index)
            if (const auto count = ignored_errors_[index].load(std::memory_order_relaxed))
                named[to_string(static_cast<errc>(index))] += count;
    }

private:
    static void add_one(number& x) { x.fetch_add(1, std::memory_order_relaxed); }

    static constexpr std::array names{"duplicate",       "former_link",    "stale_incarnation",
                                      "early",           "late",           "unexpected",
                                      "no_link",         "no_session",     "foreign_rank",
                                      "foreign_attempt", "unasked",        "contradiction",
                                      "session_died",    "refused_bytes",  "early_introduction",
                                      "endpoint_failed", "unknown_message"};

    const std::shared_ptr<const std::string> rank_;
    std::array<number, names.size()> counts_{};
    std::array<number, errc_count> ignored_errors_{};
    std::array<number, retried_count> retries_{};
    std::array<of_side, side_count> sides_{};
    std::atomic<std::int64_t> waited_{0};
    std::atomic<std::int64_t> transferred_{0};
};

/// Null where nothing is counted.
using rank_counters_ptr = std::shared_ptr<rank_counters>;

inline void count(const rank_counters_ptr& where, ignored why) {
    if (where)
        where->add(why);
}

inline void count_session(const rank_counters_ptr& where, side which, session_count what) {
    if (where)
        where->add(which, what);
}

inline void count_retry(const rank_counters_ptr& where, retried what) {
    if (where)
        where->add(what);
}

inline void count_outcome(const rank_counters_ptr& where, side which, errc why,
                          std::chrono::nanoseconds waited, std::chrono::nanoseconds transferred) {
    if (where)
        where->ended(which, why, waited, transferred);
}

inline void count_refusal(const rank_counters_ptr& where, side which, errc why) {
    if (where)
        where->refused(which, why);
}

inline void count_death(const rank_counters_ptr& where) {
    if (where)
        where->actors_died.fetch_add(1, std::memory_order_relaxed);
}

/// Whose handler runs on this thread: the rank of the actor that runs. Null: of no rank.
inline constinit thread_local const rank_counters_ptr* counters_of_thread = nullptr;

/// While it lives, this thread works for that rank.
class counting_for {
public:
    explicit counting_for(const rank_counters_ptr& rank)
        : before_(std::exchange(counters_of_thread, &rank)) {}
    counting_for(const counting_for&) = delete;
    counting_for& operator=(const counting_for&) = delete;
    ~counting_for() { counters_of_thread = before_; }

private:
    const rank_counters_ptr* before_;
};

/// The request that the running handler is about, for lines of the log; 0: none.
inline constinit thread_local std::uint64_t rid_of_thread = 0;

/// While it lives, this thread works for that request.
class working_on {
public:
    explicit working_on(std::uint64_t rid) : before_(std::exchange(rid_of_thread, rid)) {}
    working_on(const working_on&) = delete;
    working_on& operator=(const working_on&) = delete;
    ~working_on() { rid_of_thread = before_; }

private:
    std::uint64_t before_;
};

inline void count_handler_failure() {
    if (counters_of_thread && *counters_of_thread)
        (*counters_of_thread)->handler_failures.fetch_add(1, std::memory_order_relaxed);
}

} // namespace kvferry
