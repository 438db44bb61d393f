// SPDX-License-Identifier: Apache-2.0
// Pairing of views by roles and global layer.
#include "transport/planner/layout/layout_match.hpp"

#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/layout/row_shape.hpp"
#include "transport/planner/layout/shard_overlap.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/layout/view_check.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>

namespace kvferry {

namespace {

bool share_a_role(const pool_view& a, const pool_view& b) {
    return std::find_first_of(a.roles.begin(), a.roles.end(), b.roles.begin(), b.roles.end())
           != a.roles.end();
}

/// Buffers of a layer by global layer id, in physical order.
using layer_buffers = std::unordered_map<std::uint32_t, std::vector<buffer_entry>>;

layer_buffers buffers_by_layer(const layer_group& group, const pool_view& view) {
    layer_buffers result;
    for (const auto& entry : view.entries)
        result[group.layers[entry.local_layer]].push_back(entry);
    return result;
}

/// Every layer has one buffer per role, in the order of the roles.
bool has_buffer_per_role(const pool_view& view, const layer_buffers& buffers) {
    return buffers.begin()->second.size() == view.roles.size();
}

/// The target's counterpart of the source's buffer number `buffer`; nullopt: the target lacks its
/// role.
std::optional<std::uint32_t> counterpart(const view_candidate& x, std::uint32_t buffer) {
    if (x.source.roles == x.target.roles)
        return buffer;
    const auto& roles = x.target.roles;
    const auto found = std::find(roles.begin(), roles.end(), x.source.roles[buffer]);
    return found == roles.end() ? std::nullopt
                                : std::optional{static_cast<std::uint32_t>(found - roles.begin())};
}

/// The buffers that both views have in the layers that both have; empty without a common layer.
caf::expected<std::vector<entry_pair>> pair_entries(const view_candidate& x,
                                                    const layer_buffers& targets) {
    std::vector<entry_pair> result;
    std::unordered_map<std::uint32_t, std::uint32_t> seen;
    for (const auto& source : x.source.entries) {
        const auto layer = x.source_group.layers[source.local_layer];
        const auto found = targets.find(layer);
        if (found == targets.end())
            continue;
        const auto buffer = counterpart(x, seen[layer]++);
        if (buffer && *buffer < found->second.size())
            result.push_back({source, found->second[*buffer], *buffer});
    }
    if (x.source.roles != x.target.roles)
        return result;
    for (auto [layer, buffers] : seen)
        if (auto there = targets.at(layer).size(); buffers != there)
            return x.differs("buffers of layer " + detail::text(layer), std::uint64_t{buffers},
                             std::uint64_t{there});
    return result;
}

bool have_a_common_layer(const view_candidate& x, const layer_buffers& targets) {
    return std::any_of(x.source.entries.begin(), x.source.entries.end(),
                       [&x, &targets](const buffer_entry& entry) {
                           return targets.count(x.source_group.layers[entry.local_layer]) != 0;
                       });
}

/// What has been matched to the buffers of one view of the target. A source may have a layer in
/// several groups, one for each beam: they begin with the same content, so the first is enough.
class known_sources {
public:
    explicit known_sources(const rank_info& writer) : groups_(writer.pages->groups) {}

    /// Leaves out what an earlier view of the source has; `earlier` begins with the first of them.
    void leave_out(view_pair& pair, const view_pair* earlier, const view_pair* end) {
        for (; earlier + matched_ != end; ++matched_)
            for (const auto& entry : earlier[matched_].entries)
                known_.insert(key_of(earlier[matched_], entry));
        if (!known_.empty())
            std::erase_if(pair.entries, [&](const entry_pair& entry) {
                return known_.contains(key_of(pair, entry));
            });
    }

private:
    /// Global layer, buffer of the target, shard of the source.
    using key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;

    key key_of(const view_pair& pair, const entry_pair& entry) const {
        const auto& group = groups_[pair.source_group];
        return {group.layers[entry.source.local_layer], entry.target_buffer,
                group.views[pair.source_view].layout.shard_index};
    }

    const std::vector<layer_group>& groups_;
    std::set<key> known_;
    std::ptrdiff_t matched_ = 0;
};

/// Matches two views; no entries when they have no role or no layer in common.
caf::expected<view_pair> match_views(const view_candidate& x, const layer_buffers& targets) {
    view_pair result;
    if (!share_a_role(x.source, x.target) || !have_a_common_layer(x, targets))
        return result;
    if (x.source.roles != x.target.roles
        && (!has_buffer_per_role(x.source, buffers_by_layer(x.source_group, x.source))
            || !has_buffer_per_role(x.target, targets)))
        return x.differs("roles", x.source.roles, x.target.roles);
    if (auto error = check_views(x))
        return error;
    auto entries = pair_entries(x, targets);
    if (!entries)
        return std::move(entries.error());
    for (const auto& pair : *entries)
        if (auto error = check_entries(x, pair))
            return error;
    result.entries = std::move(*entries);
    result.carries = overlap_of(x.source.layout, x.target.layout).parts != 0
                     && match_rows(x.source.layout, x.target.layout) != row_match::apart
                     && is_elected(x.source.layout, x.target.layout, dp_rank(x.receiver.layout));
    return result;
}

} // namespace

caf::expected<std::vector<view_pair>> match_layouts(const rank_info& writer,
                                                    const rank_info& receiver) {
    for (const auto* side : {&writer, &receiver}) {
        if (auto error = check_parallelism(*side))
            return error;
        if (auto error = check_page_table(*side))
            return error;
    }
    if (auto error = check_split(writer, receiver))
        return error;
    std::vector<view_pair> result;
    const auto& source_groups = writer.pages->groups;
    const auto& target_groups = receiver.pages->groups;
    for (std::uint32_t tg = 0; tg < target_groups.size(); ++tg)
        for (std::uint32_t tv = 0; tv < target_groups[tg].views.size(); ++tv) {
            const auto& target = target_groups[tg].views[tv];
            const auto targets = buffers_by_layer(target_groups[tg], target);
            known_sources known{writer};
            const auto first = result.size();
            for (std::uint32_t sg = 0; sg < source_groups.size(); ++sg)
                for (std::uint32_t sv = 0; sv < source_groups[sg].views.size(); ++sv) {
                    auto pair = match_views({writer, receiver, source_groups[sg], target_groups[tg],
                                             source_groups[sg].views[sv], target},
                                            targets);
                    if (!pair)
                        return std::move(pair.error());
                    if (pair->entries.empty())
                        continue;
                    pair->source_group = sg;
                    pair->source_view = sv;
                    pair->target_group = tg;
                    pair->target_view = tv;
                    known.leave_out(*pair, result.data() + first, result.data() + result.size());
                    if (pair->entries.empty())
                        continue;
                    result.push_back(std::move(*pair));
                }
        }
    return result;
}

} // namespace kvferry
