// SPDX-License-Identifier: Apache-2.0
// Sends device memory to peers that only the fabric reaches: the device gathers pieces into pinned
// host memory, and the fabric puts each piece while the next ones are gathered. A peer on this
// machine whose device can read that memory copies the pieces from there itself.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/worker.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/header.hpp"
#include "transport/planner/plan/staged_plan.hpp"
#include "transport/turns/fair_turns.hpp"

#include <map>
#include <optional>
#include <vector>

namespace kvferry {

struct staged_put_state {
    static inline constexpr const char* name = "staged_put";

    struct dependencies {
        limits bounds;
        int ordinal = 0;
        device_actor device;
        fabric_actor fabric;
        /// Outlives the device's actor, which pins it at the first transfer. With a memfd it is
        /// shared with peers, as staging_region().
        host_region staging;
    };

    staged_put_state(staged_put_actor::pointer self, dependencies);

    staged_put_actor::behavior_type make_behavior();

private:
    struct transfer {
        start_put command;
        staged_cursor cursor;
        /// Pieces that are in staging memory now.
        std::size_t pieces = 0;
        std::uint64_t bytes = 0;
        /// Bytes handed to the device so far.
        std::uint64_t gathered_bytes = 0;
        /// The first piece waits for the host's event; the transfer has no further turn until then.
        bool held = false;
        agent_result result = agent_result::success;
        caf::error stopped_by = {};
        bool cut_up = false;
        time_point began;
        /// transfer_done::damaged of a piece.
        std::optional<damaged_bytes> damaged = {};
    };

    /// What lies in one place of the staging memory.
    struct piece {
        transfer_id of;
        std::byte* place = nullptr;
        copy_job put;
        std::uint64_t bytes = 0;
        bool is_put = false;
    };

    void on_start(start_put&);
    void on_done(const transfer_done&);
    void on_cancel(const cancel_transfer&);

    void pin();
    void pinned(const caf::error&);
    void pump();
    void gather(transfer&, staged_piece, std::byte* place);
    void fail_waiting();
    void stop(transfer&, agent_result, caf::error);
    void finish_if_over(transfer_id);
    void finish(const start_put&, agent_result, std::uint64_t bytes, caf::error, time_point began,
                const std::optional<damaged_bytes>& damaged = {});

    staged_put_actor::pointer self_;
    dependencies with_;
    bool pinning_ = false;
    /// Why nothing can be staged.
    caf::error broken_;
    std::vector<std::byte*> free_;
    std::map<transfer_id, transfer> transfers_;
    /// Those that may gather, by number.
    fair_turns turns_;
    /// Keyed by the number that the device and the fabric know a piece by.
    std::map<transfer_id, piece> pieces_;
    std::uint64_t last_ = 0;
};

} // namespace kvferry
