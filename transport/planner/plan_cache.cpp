// SPDX-License-Identifier: Apache-2.0
// The cache of templates.
#include "transport/planner/plan_cache.hpp"

#include "transport/planner/layout_digest.hpp"

#include <algorithm>

namespace kvferry {

namespace {

rank_info layout_only(const rank_info& x) {
    rank_info result;
    result.layout = x.layout;
    result.pages = x.pages;
    return result;
}

} // namespace

caf::expected<std::shared_ptr<const pair_layout>>
plan_cache::find_or_make(const rank_info& writer, const rank_info& receiver) {
    // Rotated, so that (a, b) and (b, a) are not the same.
    const auto writer_digest = layout_digest(writer);
    const auto key = (writer_digest << 1 | writer_digest >> 63) ^ layout_digest(receiver);
    const auto found = entries_.find(key);
    if (found != entries_.end() && same_layout(found->second.writer, writer)
        && same_layout(found->second.receiver, receiver)) {
        found->second.last_use = ++uses_;
        return found->second.made;
    }
    ++misses_;
    auto made = make_pair_layout(writer, receiver);
    if (!made)
        return std::move(made.error());
    auto shared = std::make_shared<const pair_layout>(std::move(*made));
    if (entries_max_ == 0)
        return shared;
    if (found == entries_.end() && entries_.size() >= entries_max_)
        entries_.erase(
            std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
                return a.second.last_use < b.second.last_use;
            }));
    entries_.insert_or_assign(key,
                              entry{layout_only(writer), layout_only(receiver), shared, ++uses_});
    return shared;
}

} // namespace kvferry
