// SPDX-License-Identifier: Apache-2.0
// The receiving sessions of a rank.
#pragma once

#include "actors/decisions/receiving/known_instances.hpp"
#include "actors/decisions/receiving/receiving_after_death.hpp"
#include "actors/decisions/receiving/transfer_parties.hpp"
#include "actors/decisions/session_table.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/time.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace kvferry {

struct receiving_session {
    struct linked_writer {
        incarnation process;
        /// It may have been told to write through mappings.
        bool may_map = false;
    };

    rx_session_actor actor;
    open_rx opened;
    /// What it was bound to, and the ranks of that instance; null before.
    transfer_parties_ptr parties = {};
    instance_ranks context = {};
    /// The ranks that hand on what the writers send, if so; and whether this one does, to others.
    std::vector<rank_info> siblings = {};
    bool hands_on = false;
    /// Writers that it may have asked.
    recycled_vector<linked_writer> linked = {};
    /// The context's DP group that runs the request, once known.
    std::optional<std::uint32_t> runs_on = {};
    /// When its writers were asked again, and told that it is wanted, for the last time.
    time_point renewed_at = {};
    time_point kept_at = {};
    /// Once its actor has died.
    std::shared_ptr<receiving_after_death> after_death = {};

    std::span<const writer_binding> writers() const {
        return parties ? std::span{parties->writers} : std::span<const writer_binding>{};
    }

    void may_ask(incarnation writer, bool to_map) {
        for (auto& each : linked)
            if (each.process == writer) {
                each.may_map = each.may_map || to_map;
                return;
            }
        linked.push_back({writer, to_map});
    }

    /// Null: it cannot have asked that one.
    const linked_writer* asked(incarnation writer) const {
        const auto found = std::find_if(linked.begin(), linked.end(), [writer](const auto& each) {
            return each.process == writer;
        });
        return found == linked.end() ? nullptr : &*found;
    }
};

/// Dead ones hold up a stop: writers may still write into their pages.
using receiving_sessions = session_table<attempt, receiving_session>;

} // namespace kvferry
