// SPDX-License-Identifier: Apache-2.0
// Pairing of views by roles and global layer.
#include "transport/planner/layout_match.hpp"

#include "transport/planner/page_table_check.hpp"
#include "transport/planner/row_shape.hpp"
#include "transport/planner/shard_overlap.hpp"
#include "transport/planner/topology.hpp"
#include "transport/planner/view_check.hpp"

#include <algorithm>
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

/// Global layer, buffer of the target, and the source's shard.
using source_of_buffer = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;

/// A source may have a layer in several groups, one for each beam: they begin with the same
/// content, so the first is enough.
void leave_out_known(view_pair& pair, const layer_group& source, const role_layout& layout,
                     std::set<source_of_buffer>& known) {
    std::erase_if(pair.entries, [&](const entry_pair& x) {
        return !known
                    .emplace(source.layers[x.source.local_layer], x.target_buffer,
                             layout.shard_index)
                    .second;
    });
}

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
            std::set<source_of_buffer> known;
            for (std::uint32_t sg = 0; sg < source_groups.size(); ++sg)
                for (std::uint32_t sv = 0; sv < source_groups[sg].views.size(); ++sv) {
                    auto pair = match_views({writer, receiver, source_groups[sg], target_groups[tg],
                                             source_groups[sg].views[sv], target},
                                            targets);
                    if (!pair)
                        return std::move(pair.error());
                    leave_out_known(*pair, source_groups[sg], source_groups[sg].views[sv].layout,
                                    known);
                    if (pair->entries.empty())
                        continue;
                    pair->source_group = sg;
                    pair->source_view = sv;
                    pair->target_group = tg;
                    pair->target_view = tv;
                    result.push_back(std::move(*pair));
                }
        }
    return result;
}

} // namespace kvferry
