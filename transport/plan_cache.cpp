// SPDX-License-Identifier: Apache-2.0
// Templates of a pair of ranks, and the cache of them.
#include "transport/plan_cache.hpp"

#include "transport/copy_template.hpp"
#include "transport/layout_digest.hpp"
#include "transport/layout_match.hpp"
#include "transport/topology.hpp"

#include <algorithm>

namespace kvferry {

namespace {

/// Views that lie in the same pools and go by the same block lists share one template.
bool same_place(const part_layout& a, const part_layout& b) {
    return a.source_group == b.source_group && a.target_group == b.target_group &&
           a.source_pool == b.source_pool && a.target_pool == b.target_pool;
}

rank_info layout_only(const rank_info& x) {
    rank_info result;
    result.layout = x.layout;
    result.pages = x.pages;
    return result;
}

} // namespace

caf::expected<pair_layout> make_pair_layout(const rank_info& writer, const rank_info& receiver) {
    auto pairs = match_layouts(writer, receiver);
    if (!pairs)
        return std::move(pairs.error());
    pair_layout result;
    if (!groups_overlap(writer.layout, receiver.layout))
        return result;
    std::vector<template_builder> builders;
    for (const auto& pair : *pairs) {
        if (!pair.carries)
            continue;
        const auto& source_group = writer.pages->groups[pair.source_group];
        const auto& target_group = receiver.pages->groups[pair.target_group];
        const auto& source = source_group.views[pair.source_view];
        const auto& target = target_group.views[pair.target_view];
        part_layout part{pair.source_group,
                         pair.target_group,
                         source.pool,
                         target.pool,
                         source_group.tokens_per_slot,
                         nullptr};
        const auto place =
            std::find_if(result.begin(), result.end(),
                         [&part](const part_layout& other) { return same_place(part, other); });
        const auto index = static_cast<std::size_t>(place - result.begin());
        if (place == result.end()) {
            result.push_back(std::move(part));
            builders.emplace_back();
        }
        builders[index].add(pair, source, target, source_group.tokens_per_slot.value_or(1));
    }
    for (std::size_t index = 0; index < result.size(); ++index) {
        auto made = builders[index].finish();
        if (!made)
            return add_context(made.error(),
                               "template from " + describe(writer) + " to " + describe(receiver));
        result[index].layout = std::make_shared<const copy_template>(std::move(*made));
    }
    return result;
}

caf::expected<std::shared_ptr<const pair_layout>>
plan_cache::find_or_make(const rank_info& writer, const rank_info& receiver) {
    // Rotated, so that (a, b) and (b, a) are not the same.
    const auto writer_digest = layout_digest(writer);
    const auto key = (writer_digest << 1 | writer_digest >> 63) ^ layout_digest(receiver);
    const auto found = entries_.find(key);
    if (found != entries_.end() && same_layout(found->second.writer, writer) &&
        same_layout(found->second.receiver, receiver)) {
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
