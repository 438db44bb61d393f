// SPDX-License-Identifier: Apache-2.0
// Several copy actors, each on a thread of its own, as one: long copies are split among them by
// bytes, short ones go to whoever has the least to do of their class and more urgent ones.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/local/copies.hpp"
#include "messages/values/ids.hpp"
#include "transport/loop/resident.hpp"

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace kvferry {

/// internal: a team with the ends of its members' copies.
using copy_team_actor = copy_actor::extend_with<completion_actor>;

class copy_team_state {
public:
    static inline constexpr const char* name = "copy_team";

    struct dependencies {
        /// At least one; they serve nobody else and are stopped with the team.
        std::vector<copy_actor> members;
        /// A copy is split when each member gets at least this much of it.
        std::uint64_t share_bytes_min = 0;
    };

    copy_team_state(copy_team_actor::pointer self, dependencies);

    copy_team_actor::behavior_type make_behavior();

private:
    /// A copy that was asked for, and what its shares have reported.
    struct transfer {
        completion_actor reply_to;
        std::vector<transfer_id> shares;
        std::size_t running = 0;
        /// By the plan, and in the end by the shares as well.
        std::uint64_t bytes = 0;
        transfer_done so_far;
    };

    /// What one member copies for a transfer, under an id of the team's own.
    struct share {
        transfer_id of;
        std::size_t member = 0;
        std::uint64_t bytes = 0;
        priority urgency = priority::normal;
    };

    void on_start(start_copy&);
    void on_done(const transfer_done&);
    void on_cancel(const cancel_transfer&);
    caf::result<void> on_stop(const stop_io&);

    std::size_t ways_for(const copy_job&) const;
    std::size_t least_busy(priority) const;
    void give(transfer_id of, start_copy);
    void cancel_shares(const transfer&);

    copy_team_actor::pointer self_;
    dependencies with_;
    /// Bytes that each member has not reported yet, by class.
    using bytes_by_class = std::array<std::uint64_t, priorities.size()>;
    std::vector<bytes_by_class> bytes_left_;
    std::unordered_map<transfer_id, transfer> transfers_;
    std::unordered_map<transfer_id, share> shares_;
    std::uint64_t last_share_ = 0;
};

copy_actor spawn_copy_team(caf::actor_system&, placement, copy_team_state::dependencies);

} // namespace kvferry
