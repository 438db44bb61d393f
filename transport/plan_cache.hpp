// SPDX-License-Identifier: Apache-2.0
// What planning needs to know of a pair of layouts, made once and kept for the pairs last used.
#pragma once

#include "messages/copy_plan.hpp"
#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/rank_info.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace kvferry {

/// A template and the block lists it is applied to: a plan part that lacks only its slots.
struct part_layout {
    std::uint32_t source_group = 0;
    std::uint32_t target_group = 0;
    std::uint32_t source_pool = 0;
    std::uint32_t target_pool = 0;
    /// None: the group has one slot per request.
    std::optional<std::uint32_t> tokens_per_slot;
    std::shared_ptr<const copy_template> layout;
};

/// What a writer sends to a receiver; no parts when it has nothing for it.
using pair_layout = std::vector<part_layout>;

/// Works it out: layout_mismatch, missing_layout, or plan_invalid when the receiver's own views
/// overlap.
caf::expected<pair_layout> make_pair_layout(const rank_info& writer, const rank_info& receiver);

/// One owner, no lock. Found by digest, confirmed by comparison, so that a peer that forges a
/// digest gets a slower plan and never another pair's. Errors are not kept.
class plan_cache {
public:
    explicit plan_cache(std::size_t entries_max = limits{}.plan_cache_entries_max)
        : entries_max_(entries_max) {}

    /// The layout of this pair; makes it on first use and lets go of the pair unused for longest.
    caf::expected<std::shared_ptr<const pair_layout>> find_or_make(const rank_info& writer,
                                                                   const rank_info& receiver);

    std::size_t size() const { return entries_.size(); }
    std::uint64_t misses() const { return misses_; }

private:
    struct entry {
        /// Only layout and pages are set.
        rank_info writer;
        rank_info receiver;
        std::shared_ptr<const pair_layout> made;
        std::uint64_t last_use = 0;
    };

    std::size_t entries_max_;
    std::unordered_map<std::uint64_t, entry> entries_;
    std::uint64_t uses_ = 0;
    std::uint64_t misses_ = 0;
};

} // namespace kvferry
