// SPDX-License-Identifier: Apache-2.0
// Templates of pairs of ranks, made once and kept for the pairs last used.
#pragma once

#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/plan/pair_layout.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

namespace kvferry {

/// One owner, no lock. An entry serves all pairs that are alike to a plan: under attention DP
/// thousands of ranks are, and their stages and ranks do not matter. Entries are found by digest
/// and confirmed by comparison, so that a peer that forges a digest gets a slower plan but never
/// another pair's. Errors are not kept.
class plan_cache {
public:
    explicit plan_cache(std::size_t entries_max = limits{}.plan_cache_entries_max)
        : entries_max_(entries_max) {}

    /// The layout of this pair; makes it on first use and drops the one unused for longest.
    ///
    /// With `held`, which keeps the receiver's info where and as it is, the next call with the same
    /// compares nothing; the writer's outlives the cache then.
    caf::expected<std::shared_ptr<const pair_layout>>
    find_or_make(const rank_info& writer, const rank_info& receiver,
                 const std::shared_ptr<const void>& held = {});

    std::size_t size() const { return entries_.size(); }
    std::uint64_t misses() const { return misses_; }

private:
    /// What a plan needs to know of one rank of a pair.
    struct half {
        parallelism layout;
        shared_optional<page_table> pages;
    };
    struct entry {
        half writer;
        half receiver;
        std::shared_ptr<const pair_layout> made;
        std::uint64_t last_use = 0;
    };

    /// A pair that was asked for.
    struct seen_pair {
        const rank_info* writer = nullptr;
        std::weak_ptr<const void> held;
        std::shared_ptr<const pair_layout> layout;
    };

    caf::expected<std::shared_ptr<const pair_layout>> compare_or_make(const rank_info& writer,
                                                                      const rank_info& receiver);

    std::size_t entries_max_;
    static bool serves(const entry&, const rank_info& writer, const parallelism& from,
                       const rank_info& receiver, const parallelism& to);

    std::unordered_map<std::uint64_t, entry> entries_;
    /// The one that was used last, as a rule the next one as well: no digest is needed to find it.
    entry* latest_ = nullptr;
    /// By the receiver's info.
    std::unordered_map<const rank_info*, seen_pair> seen_;
    std::uint64_t uses_ = 0;
    std::uint64_t misses_ = 0;
};

} // namespace kvferry
