// SPDX-License-Identifier: Apache-2.0
// What a rank says of itself to people who ask it from outside. Names are texts: whoever asks may
// be older than whoever answers.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

/// Asks one rank what it does, at one of the addresses where it answers, or, if it is rank 0, at
/// its instance's rank-info server.
struct query_rank {
    message_header header;
    /// Only sessions of this request.
    std::optional<rid> request = {};
    /// Sessions that are wanted, those that end next; 0: numbers alone, which cost the rank's loop
    /// nothing.
    std::uint32_t sessions_max = 0;
};

/// A number by its name: a state, or the reason of a failure.
struct named_count {
    std::string name;
    std::uint64_t count = 0;
};

/// What one side of a rank has done since it was started.
struct side_status {
    /// "context" or "generation".
    std::string side;
    /// Sessions that are not forgotten, by state; states that occur.
    std::vector<named_count> states;
    std::uint64_t succeeded = 0;
    /// Sessions that have ended for another reason than success; reasons that occur.
    std::vector<named_count> failed;
    /// Bytes of the cache that have left it, or reached it.
    std::uint64_t bytes = 0;
    /// Bytes of slots on loan to sessions that have their outcome.
    std::uint64_t quarantined_bytes = 0;
};

/// What a session waits for.
struct told_wait {
    std::string what;
    /// An actor by its name in traces, or "host".
    std::string who;
    /// Where that is, as in "context/1"; empty: on the session's own rank.
    std::string rank;
};

struct told_session {
    /// "context" or "generation".
    std::string side;
    /// "TRANSFERRING", ...; "NONE": peers ask for it, and the host has not opened it.
    std::string state;
    rid request;
    kvferry::attempt attempt;
    /// Since it was opened.
    std::optional<std::uint64_t> age_ns = {};
    /// Until it ends by itself.
    std::optional<std::uint64_t> left_ns = {};
    std::vector<told_wait> waits = {};
    std::uint64_t waits_untold = 0;
};

/// A rank of an instance, as its rank 0 knows it.
struct rank_place {
    rank_id rank;
    /// It has introduced itself.
    bool known = false;
    /// Newest protocol version that it speaks.
    std::uint16_t protocol = 0;
    /// "host:port" where it answers query_rank, to be tried in this order; empty: it is of a
    /// release that does not.
    std::vector<std::string> answers_at = {};
    /// Since it has introduced itself last.
    std::uint64_t silent_ms = 0;
};

/// Answer to query_rank.
struct rank_status {
    message_header header;
    /// "prefill-3/1".
    std::string rank;
    std::uint32_t world_size = 0;
    std::string release;
    std::uint16_t protocol = 0;
    /// "published", "draining", ...
    std::string phase;
    /// Its monotonic clock: two answers tell rates.
    std::uint64_t now_ns = 0;
    std::uint64_t links = 0;
    std::vector<side_status> sides;
    std::vector<told_session> sessions;
    /// Sessions that it has and does not list, when some were wanted.
    std::uint64_t sessions_untold = 0;
    /// Why it cannot say anything of its sessions; empty: it can.
    std::string problem;
    /// Of rank 0: all ranks of its instance, in rank order.
    std::vector<rank_place> places;
};

template <class Inspector>
bool inspect(Inspector& f, query_rank& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("request", x.request),
                              f.field("sessions_max", x.sessions_max));
}

template <class Inspector>
bool inspect(Inspector& f, named_count& x) {
    return f.object(x).fields(f.field("name", x.name), f.field("count", x.count));
}

template <class Inspector>
bool inspect(Inspector& f, side_status& x) {
    return f.object(x).fields(f.field("side", x.side), f.field("states", x.states),
                              f.field("succeeded", x.succeeded), f.field("failed", x.failed),
                              f.field("bytes", x.bytes),
                              f.field("quarantined_bytes", x.quarantined_bytes));
}

template <class Inspector>
bool inspect(Inspector& f, told_wait& x) {
    return f.object(x).fields(f.field("what", x.what), f.field("who", x.who),
                              f.field("rank", x.rank));
}

template <class Inspector>
bool inspect(Inspector& f, told_session& x) {
    return f.object(x).fields(f.field("side", x.side), f.field("state", x.state),
                              f.field("request", x.request), f.field("attempt", x.attempt),
                              f.field("age_ns", x.age_ns), f.field("left_ns", x.left_ns),
                              f.field("waits", x.waits), f.field("waits_untold", x.waits_untold));
}

template <class Inspector>
bool inspect(Inspector& f, rank_place& x) {
    return f.object(x).fields(f.field("rank", x.rank), f.field("known", x.known),
                              f.field("protocol", x.protocol), f.field("answers_at", x.answers_at),
                              f.field("silent_ms", x.silent_ms));
}

template <class Inspector>
bool inspect(Inspector& f, rank_status& x) {
    return f.object(x).fields(
        f.field("header", x.header), f.field("rank", x.rank), f.field("world_size", x.world_size),
        f.field("release", x.release), f.field("protocol", x.protocol), f.field("phase", x.phase),
        f.field("now_ns", x.now_ns), f.field("links", x.links), f.field("sides", x.sides),
        f.field("sessions", x.sessions), f.field("sessions_untold", x.sessions_untold),
        f.field("problem", x.problem), f.field("places", x.places));
}

} // namespace kvferry
