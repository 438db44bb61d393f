// SPDX-License-Identifier: Apache-2.0
// Host copies on their own thread, one piece at a time: transfers take turns by class, peer,
// session and bytes (fair_turns), and cancels and new transfers are handled between pieces.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/header.hpp"
#include "transport/loop/resident.hpp"
#include "transport/planner/plan/plan_expand.hpp"
#include "transport/planner/plan/word_sums.hpp"
#include "transport/turns/fair_turns.hpp"

#include <optional>
#include <unordered_map>

namespace kvferry {

class copy_io_state {
public:
    static inline constexpr const char* name = "copy_io";

    struct dependencies {
        /// Used: copy_piece_bytes_max.
        limits bounds;
    };

    copy_io_state(stepping_copy_actor::pointer self, dependencies);

    stepping_copy_actor::behavior_type make_behavior();

private:
    struct transfer {
        transfer_id id;
        copy_job job;
        completion_actor reply_to;
        plan_cursor cursor;
        /// When a digest is made on the way.
        std::optional<word_sums> sums = {};
        bool writes = true;
        std::chrono::nanoseconds posting{0};
        time_point began = {};
    };

    void on_start(start_copy&);
    void on_cancel(const cancel_transfer&);
    caf::result<void> on_stop(const stop_io&);
    void on_step(const copy_step&);

    bool copy_piece(transfer&) const;
    void ask_for_step();
    void finish(transfer&, agent_result, caf::error);

    stepping_copy_actor::pointer self_;
    dependencies with_;
    std::unordered_map<transfer_id, transfer> transfers_;
    /// Whose turn it is, by number.
    fair_turns turns_;
    /// A copy_step is under way; there is never more than one.
    bool stepping_ = false;
};

/// Spawns a copy actor at a place: a loop of its own, or CAF's scheduler.
copy_actor spawn_copy_io(caf::actor_system&, placement, copy_io_state::dependencies);

/// Copies the whole job at once, on the caller's thread; for jobs up to
/// limits::inline_copy_bytes_max.
void copy_now(const copy_job&);

} // namespace kvferry
