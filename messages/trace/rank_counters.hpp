// SPDX-License-Identifier: Apache-2.0
// What a rank counts: its sessions, messages of other ranks that it ignored, by reason, and actors
// that died. Its links, sender, receiver and sessions count; its statistics read.
#pragma once

#include "messages/errors.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

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
};

/// What sender and receiver count of their sessions; each session is counted once per line.
enum class session_count : std::uint8_t {
    opened,
    /// It has its outcome.
    ended,
    /// Its pages are released; it is not in the table any more.
    forgotten,
};

class rank_counters {
public:
    void add(session_count what) {
        sessions_[static_cast<std::size_t>(what)].fetch_add(1, std::memory_order_relaxed);
    }

    std::uint64_t sessions(session_count what) const {
        return sessions_[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
    }

    void add(ignored why, std::uint64_t times = 1) {
        counts_[static_cast<std::size_t>(why)].fetch_add(times, std::memory_order_relaxed);
    }

    /// An outcome. The times of a session that succeeded: to its first piece, and from there on.
    void add_outcome(errc why, std::chrono::nanoseconds waited,
                     std::chrono::nanoseconds transferred) {
        outcomes_[static_cast<std::size_t>(why)].fetch_add(1, std::memory_order_relaxed);
        if (why != errc::none)
            return;
        waited_.fetch_add(waited.count(), std::memory_order_relaxed);
        transferred_.fetch_add(transferred.count(), std::memory_order_relaxed);
    }

    /// errc::none: those that succeeded.
    std::uint64_t outcomes(errc why) const {
        return outcomes_[static_cast<std::size_t>(why)].load(std::memory_order_relaxed);
    }
    std::chrono::nanoseconds waited() const { return std::chrono::nanoseconds{waited_.load()}; }
    std::chrono::nanoseconds transferred() const {
        return std::chrono::nanoseconds{transferred_.load()};
    }

    /// Sessions, links, senders and receivers that died.
    std::atomic<std::uint64_t> actors_died{0};

    /// Adds those that are not 0 to a table by name.
    void add_to(std::map<std::string, std::uint64_t>& named) const {
        for (std::size_t index = 0; index < names.size(); ++index)
            if (const auto count = counts_[index].load(std::memory_order_relaxed))
                named[names[index]] += count;
    }

private:
    static constexpr std::array names{
        "duplicate",  "former_link",   "stale_incarnation", "early",        "late",
        "unexpected", "no_link",       "no_session",        "foreign_rank", "foreign_attempt",
        "unasked",    "contradiction", "session_died",      "refused_bytes"};

    std::array<std::atomic<std::uint64_t>, names.size()> counts_{};
    std::array<std::atomic<std::uint64_t>, 3> sessions_{};
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(errc_last) + 1> outcomes_{};
    std::atomic<std::int64_t> waited_{0};
    std::atomic<std::int64_t> transferred_{0};
};

/// Null where nothing is counted.
using rank_counters_ptr = std::shared_ptr<rank_counters>;

inline void count(const rank_counters_ptr& where, ignored why) {
    if (where)
        where->add(why);
}

inline void count_session(const rank_counters_ptr& where, session_count what) {
    if (where)
        where->add(what);
}

inline void count_outcome(const rank_counters_ptr& where, errc why, std::chrono::nanoseconds waited,
                          std::chrono::nanoseconds transferred) {
    if (where)
        where->add_outcome(why, waited, transferred);
}

inline void count_death(const rank_counters_ptr& where) {
    if (where)
        where->actors_died.fetch_add(1, std::memory_order_relaxed);
}

} // namespace kvferry
