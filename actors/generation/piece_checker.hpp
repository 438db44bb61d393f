// SPDX-License-Identifier: Apache-2.0
// Compares what has arrived on this rank with what its writers say they read (limits::digests).
#pragma once

#include "actors/shared/own_memory.hpp"
#include "messages/local/copies.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/planner/plan/plan_cache.hpp"
#include "transport/planner/plan/word_sums.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

/// One per rank, used on the rank's home only: there it reads every byte of a piece once, or has
/// the device that all pools lie on read it.
class piece_checker {
public:
    /// `pools` are the rank's own as this process addresses them.
    piece_checker(rank_info self, std::vector<pool_base> pools, own_memory memory,
                  std::shared_ptr<plan_cache> plans,
                  const std::map<int, device_actor>& devices = {});

    /// Whether a digest of this writer's pieces could be compared.
    bool can_check(const rank_info& writer) const;

    /// digest_mismatch: the slots of `target` hold other bytes than the writer has read; names the
    /// first block that differs, when the digest tells. `report` must have a digest, and be about
    /// these views; empty: all.
    /// `read`: of what arrived, when the host cannot read it.
    caf::error check(const rank_info& writer, const kv_slice& target,
                     const std::vector<view_place>& views, const kv_agent_result& report,
                     const plan_digest* read = nullptr) const;

    /// Who reads what arrived; null: check() does.
    const copy_actor& reader() const { return reader_; }
    /// What it is to be asked: its answer's digest is that of what arrived. Everything but who
    /// hears of it.
    caf::expected<start_copy> question(const rank_info& writer, const kv_slice& target,
                                       const std::vector<view_place>& views,
                                       const kv_agent_result& report) const;

private:
    caf::expected<copy_plan> plan_of(const rank_info& writer, const kv_slice& target,
                                     const std::vector<view_place>& views,
                                     const kv_agent_result& report) const;
    std::string text_of(differing_pairs, const copy_plan&, const kv_slice& target) const;

    rank_info self_;
    std::vector<pool_base> pools_;
    own_memory memory_;
    std::shared_ptr<plan_cache> plans_;
    copy_actor reader_;
    mutable std::uint64_t questions_ = 0;
};

} // namespace kvferry
