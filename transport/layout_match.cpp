// SPDX-License-Identifier: Apache-2.0
// Pairing of views by roles and global layer, and the checks that make a pair safe to map.
#include "transport/layout_match.hpp"

#include "transport/layout_error.hpp"
#include "transport/page_table_check.hpp"
#include "transport/topology.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>

namespace kvferry {

namespace {

using detail::mismatch;
using detail::text;

/// One candidate pair on its way through the checks.
struct candidate {
    const rank_info& writer;
    const rank_info& receiver;
    const layer_group& source_group;
    const layer_group& target_group;
    const pool_view& source;
    const pool_view& target;

    template <class T>
    caf::error differs(const std::string& field, const T& source_value,
                       const T& target_value) const {
        return mismatch(field + " of " + text(source.roles), writer, source_value, receiver,
                        target_value);
    }
};

bool share_a_role(const pool_view& a, const pool_view& b) {
    return std::find_first_of(a.roles.begin(), a.roles.end(), b.roles.begin(), b.roles.end()) !=
           a.roles.end();
}

bool shards_meet(const role_layout& source, const role_layout& target) {
    const auto& finer = source.num_shards > target.num_shards ? source : target;
    const auto& coarser = source.num_shards > target.num_shards ? target : source;
    return finer.shard_index / (finer.num_shards / coarser.num_shards) == coarser.shard_index;
}

/// Replicas take turns by the receiver's DP rank, which spreads the load over them.
bool is_elected(const role_layout& source, const role_layout& target, std::uint32_t receiver_dp) {
    const auto turns = std::max(1u, source.num_replicas / target.num_replicas);
    return source.replica_index % turns == receiver_dp % turns;
}

/// Checks that concern the two views as wholes.
caf::error check_views(const candidate& x) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    if (a.kind != b.kind)
        return x.differs("kind", to_string(a.kind), to_string(b.kind));
    if (a.element_type != b.element_type)
        return x.differs("element_type", a.element_type, b.element_type);
    if (a.element_shape != b.element_shape)
        return x.differs("element_shape", a.element_shape, b.element_shape);
    if (x.source_group.tokens_per_slot != x.target_group.tokens_per_slot)
        return x.differs("tokens_per_slot", x.source_group.tokens_per_slot,
                         x.target_group.tokens_per_slot);
    const auto finer = std::max(a.num_shards, b.num_shards);
    const auto coarser = std::min(a.num_shards, b.num_shards);
    if (finer % coarser != 0)
        return x.differs("num_shards (one must divide the other)", a.num_shards, b.num_shards);
    const auto ratio = finer / coarser;
    if (a.section_bytes.size() != b.section_bytes.size())
        return x.differs("number of sections", a.section_bytes.size(), b.section_bytes.size());
    for (std::size_t index = 0; index < a.section_bytes.size(); ++index) {
        const auto a_bytes = a.section_bytes[index] * (a.num_shards == finer ? ratio : 1);
        const auto b_bytes = b.section_bytes[index] * (b.num_shards == finer ? ratio : 1);
        if (a_bytes != b_bytes)
            return x.differs("bytes of all shards of section " + text(index), a_bytes * coarser,
                             b_bytes * coarser);
    }
    if (ratio == 1 || a.kind == mapper_kind::sectioned)
        return {};
    if (!a.shard_unit_bytes || a.shard_unit_bytes != b.shard_unit_bytes)
        return x.differs("shard_unit_bytes (needed to split heads)", a.shard_unit_bytes,
                         b.shard_unit_bytes);
    if (a.kind == mapper_kind::nhd && !x.source_group.tokens_per_slot)
        return x.differs("tokens_per_slot (needed to split nhd)", x.source_group.tokens_per_slot,
                         x.target_group.tokens_per_slot);
    return {};
}

/// Checks that concern one buffer of one layer.
caf::error check_entries(const candidate& x, const entry_pair& pair) {
    const auto& a = x.source.layout;
    const auto& b = x.target.layout;
    if (pair.source.bytes * a.num_shards != pair.target.bytes * b.num_shards)
        return x.differs("bytes of all shards of one buffer of layer " +
                             text(x.source_group.layers[pair.source.local_layer]),
                         pair.source.bytes * a.num_shards, pair.target.bytes * b.num_shards);
    if (a.num_shards == b.num_shards || a.kind == mapper_kind::sectioned)
        return {};
    const auto finer_bytes = std::min(pair.source.bytes, pair.target.bytes);
    if (finer_bytes % *a.shard_unit_bytes != 0)
        return x.differs("bytes of one buffer (must be a multiple of shard_unit_bytes " +
                             text(*a.shard_unit_bytes) + ")",
                         pair.source.bytes, pair.target.bytes);
    if (a.kind == mapper_kind::nhd && finer_bytes % *x.source_group.tokens_per_slot != 0)
        return x.differs("bytes of one buffer (must be a multiple of tokens_per_slot " +
                             text(*x.source_group.tokens_per_slot) + ")",
                         pair.source.bytes, pair.target.bytes);
    return {};
}

/// Buffers of a layer by global layer id, in physical order.
using layer_buffers = std::unordered_map<std::uint32_t, std::vector<buffer_entry>>;

layer_buffers buffers_by_layer(const layer_group& group, const pool_view& view) {
    layer_buffers result;
    for (const auto& entry : view.entries)
        result[group.layers[entry.local_layer]].push_back(entry);
    return result;
}

/// The buffers of the layers that both views have; empty when they have none in common.
caf::expected<std::vector<entry_pair>> pair_entries(const candidate& x,
                                                    const layer_buffers& targets) {
    std::vector<entry_pair> result;
    std::unordered_map<std::uint32_t, std::size_t> seen;
    for (const auto& source : x.source.entries) {
        const auto layer = x.source_group.layers[source.local_layer];
        const auto found = targets.find(layer);
        if (found == targets.end())
            continue;
        const auto buffer = seen[layer]++;
        if (buffer < found->second.size())
            result.push_back({source, found->second[buffer]});
    }
    for (auto [layer, buffers] : seen)
        if (auto there = targets.at(layer).size(); buffers != there)
            return x.differs("buffers of layer " + text(layer), buffers, there);
    return result;
}

bool have_a_common_layer(const candidate& x, const layer_buffers& targets) {
    return std::any_of(x.source.entries.begin(), x.source.entries.end(),
                       [&x, &targets](const buffer_entry& entry) {
                           return targets.count(x.source_group.layers[entry.local_layer]) != 0;
                       });
}

/// The pair of views, or no entries when they have nothing to do with each other.
caf::expected<view_pair> match_views(const candidate& x, const layer_buffers& targets) {
    view_pair result;
    if (!share_a_role(x.source, x.target) || !have_a_common_layer(x, targets))
        return result;
    if (x.source.roles != x.target.roles)
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
    result.carries = shards_meet(x.source.layout, x.target.layout) &&
                     is_elected(x.source.layout, x.target.layout, dp_rank(x.receiver.layout));
    return result;
}

} // namespace

shard_split split_of(const role_layout& source, const role_layout& target) {
    shard_split result;
    result.target_is_finer = target.num_shards > source.num_shards;
    const auto& finer = result.target_is_finer ? target : source;
    const auto& coarser = result.target_is_finer ? source : target;
    result.ratio = finer.num_shards / coarser.num_shards;
    result.part = finer.shard_index % result.ratio;
    return result;
}

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
                    result.push_back(std::move(*pair));
                }
        }
    return result;
}

} // namespace kvferry
