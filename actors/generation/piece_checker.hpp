// SPDX-License-Identifier: Apache-2.0
// Compares what has arrived on this rank with what its writers say they read (limits::digests).
#pragma once

#include "actors/shared/own_memory.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/planner/plan/plan_cache.hpp"
#include "transport/planner/plan/word_sums.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

/// One per rank, used on the rank's home only: there it reads every byte of a piece once.
class piece_checker {
public:
    /// `pools` are the rank's own as this process addresses them.
    piece_checker(rank_info self, std::vector<pool_base> pools, own_memory memory,
                  std::shared_ptr<plan_cache> plans)
        : self_(std::move(self)), pools_(std::move(pools)), memory_(std::move(memory)),
          plans_(std::move(plans)) {}

    /// Whether a digest of this writer's pieces could be compared.
    bool can_check(const rank_info& writer) const;

    /// digest_mismatch: the slots of `target` hold other bytes than the writer has read; names the
    /// first block that differs, when the digest tells. `report` must have a digest.
    caf::error check(const rank_info& writer, const kv_slice& target,
                     const kv_agent_result& report) const;

private:
    std::string text_of(differing_pairs, const copy_plan&, const kv_slice& target) const;
    bool lies_in(std::size_t group, std::uint32_t pool) const;

    rank_info self_;
    std::vector<pool_base> pools_;
    own_memory memory_;
    std::shared_ptr<plan_cache> plans_;
};

} // namespace kvferry
