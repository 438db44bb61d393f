// SPDX-License-Identifier: Apache-2.0
// The ranks of one instance as they register: pure bookkeeping, handed out only when complete.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/rank_status.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

class instance_roster {
public:
    /// `silent_max`: how long an entry counts without being entered again.
    instance_roster(std::string instance, std::uint32_t world_size,
                    clock::duration silent_max = clock::duration::max());

    /// Enters a rank, and where it answers questions about itself. The same incarnation again
    /// updates its entry; a new one replaces it. Which of two processes started last is not known:
    /// the last words of a dead one may come after the first of its successor. A replaced
    /// incarnation that still speaks therefore takes its place back when the one that replaced it
    /// has been silent for `silent_max`. invalid_argument: not a rank of this instance.
    /// layout_mismatch: its place contradicts its index, or it splits the model in another way than
    /// the ranks already here.
    /// stale_incarnation: its incarnation has been replaced by one that has been heard lately.
    caf::error enter(rank_info, time_point now = {}, std::vector<std::string> answers_at = {});

    /// The same info again of a rank that has its place, without a look at it. False: it has lost
    /// its place to another incarnation.
    bool heard_again(rank_id, incarnation, time_point now);

    /// Counts what has changed; the same info again is no change.
    std::uint64_t changes() const { return changes_; }

    bool complete() const { return missing_count_ == 0; }

    /// All ranks in rank order; only when complete.
    std::vector<rank_info> all() const;

    /// "ranks 1, 3 of 4", at most 16 by name; only when not complete.
    std::string missing() const;

    /// All ranks in rank order, also those that have not registered.
    std::vector<rank_place> places(time_point now) const;

    const std::string& instance() const { return instance_; }

    /// The incarnation of rank 0; zero until it has registered.
    incarnation first_process() const;

private:
    /// Former incarnations remembered per rank, so that their late registrations change nothing.
    static constexpr std::size_t former_max = 8;
    /// Addresses that are kept for each rank.
    static constexpr std::size_t addresses_max = 8;

    struct entry {
        std::optional<rank_info> info;
        std::vector<incarnation> former;
        time_point heard_at;
        std::vector<std::string> answers_at;
    };

    caf::error check(const rank_info&, time_point now) const;

    std::string instance_;
    clock::duration silent_max_;
    std::vector<entry> entries_;
    std::size_t missing_count_;
    std::uint64_t changes_ = 0;
};

} // namespace kvferry
