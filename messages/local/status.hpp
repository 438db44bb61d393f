// SPDX-License-Identifier: Apache-2.0
// Sessions as they are now, for people.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/session_state.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/header.hpp"

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

struct query_status {};

/// One thing that a session waits for, and who must act.
struct session_wait {
    /// "reports of context rank 1".
    std::string what;
    /// An actor by its name in traces, or "host".
    std::string who;
    /// Where that is, as in "context/1"; empty: on the session's own rank.
    std::string rank = {};
};

/// A session as it is now, for people: what it is, what it waits for, what is on loan.
struct session_status {
    side role = side::context;
    rid request;
    kvferry::attempt attempt = {};
    session_state state = session_state::init;
    /// Per peer rank: how far its evidence is.
    std::map<rank_id, exposure> peers = {};
    /// `waits` as one text; "nothing" when it is empty.
    std::string waits_for = {};
    std::vector<session_wait> waits = {};
    /// When it ends by itself; none once it has its outcome.
    std::optional<time_point> deadline = {};
    std::optional<time_point> opened_at = {};
    /// On the context side: what it sends is what its rank has received (relay).
    bool relay = false;
};

struct query_slots {};

/// Slots that a session, or a peer, may still read or write, by layer group; ascending, each once.
/// Before the outcome: all that were lent.
struct slots_on_loan {
    std::vector<std::vector<std::int32_t>> groups;
};

struct list_sessions {
    /// Only those of this request.
    std::optional<rid> request = {};
    /// About so many on each side, those that end next.
    std::size_t most = std::numeric_limits<std::size_t>::max();
};

struct session_list {
    std::vector<session_status> sessions;
    /// Requests of receiver ranks whose session the host has not opened yet; `deadline` is when
    /// they are forgotten unless they are renewed.
    std::vector<session_status> unopened = {};
};

} // namespace kvferry
