// SPDX-License-Identifier: Apache-2.0
// The receiving sessions of a rank.
#pragma once

#include "actors/decisions/receiving/known_instances.hpp"
#include "actors/decisions/receiving/receiving_after_death.hpp"
#include "actors/decisions/receiving/transfer_parties.hpp"
#include "actors/decisions/session_table.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/time.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

namespace kvferry {

struct receiving_session {
    rx_session_actor actor;
    open_rx opened;
    /// What it was bound to, and the ranks of that instance; null before.
    transfer_parties_ptr parties = {};
    instance_ranks context = {};
    /// The ranks that hand on what the writers send, if so; and whether this one does, to others.
    std::vector<rank_info> siblings = {};
    bool hands_on = false;
    /// Writers that it may have asked, and those of them that it may have told to write through
    /// mappings.
    std::set<incarnation> may_know = {};
    std::set<incarnation> may_map = {};
    /// The context's DP group that runs the request, once known.
    std::optional<std::uint32_t> runs_on = {};
    /// When its writers were asked again, and told that it is wanted, for the last time.
    time_point renewed_at = {};
    time_point kept_at = {};
    /// Once its actor has died.
    std::optional<receiving_after_death> after_death = {};

    std::span<const writer_binding> writers() const {
        return parties ? std::span{parties->writers} : std::span<const writer_binding>{};
    }
};

/// Dead ones hold up a stop: writers may still write into their pages.
using receiving_sessions = session_table<attempt, receiving_session>;

} // namespace kvferry
