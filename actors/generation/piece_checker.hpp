// SPDX-License-Identifier: Apache-2.0
// Compares what has arrived on this rank with what its writers say they read (limits::digests).
#pragma once

#include "actors/context/route.hpp"
#include "messages/local/local_messages.hpp"
#include "transport/planner/plan_cache.hpp"

#include <memory>
#include <vector>

namespace kvferry {

/// Of one rank, used on its home only: it reads the rank's memory there, every byte once.
class piece_checker {
public:
    /// `pools` are the rank's own as this process addresses them.
    piece_checker(rank_info self, std::vector<pool_base> pools, own_memory memory,
                  std::shared_ptr<plan_cache> plans)
        : self_(std::move(self)), pools_(std::move(pools)), memory_(std::move(memory)),
          plans_(std::move(plans)) {}

    /// Whether a digest of this writer's pieces could be compared.
    bool can_check(const rank_info& writer) const;

    /// digest_mismatch: other bytes lie in the slots of `target` than the writer has read. `report`
    /// has a digest.
    caf::error check(const rank_info& writer, const kv_slice& target,
                     const kv_agent_result& report) const;

private:
    rank_info self_;
    std::vector<pool_base> pools_;
    own_memory memory_;
    std::shared_ptr<plan_cache> plans_;
};

} // namespace kvferry
