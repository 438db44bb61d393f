// SPDX-License-Identifier: Apache-2.0
// Checks of one rank's page table.
#include "transport/planner/layout/page_table_check.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/layout_error.hpp"
#include "transport/planner/layout/row_shape.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace kvferry {

namespace {

using detail::text;

/// Upper limit of all offsets, sizes and distances, so that sums and products with slots fit in 64
/// bits.
constexpr std::uint64_t extent_bytes_max = std::uint64_t{1} << 48;
constexpr std::uint32_t shards_max = 1u << 16;

/// What is wrong, as text; empty when the check passes.
using finding = std::string;

finding check_pool(const physical_pool& pool) {
    if (pool.slot_count == 0 || pool.slot_count > std::numeric_limits<std::int32_t>::max())
        return "slot_count is " + text(pool.slot_count);
    if (pool.slot_stride_bytes == 0 || pool.slot_stride_bytes >= extent_bytes_max)
        return "slot_stride_bytes is " + text(pool.slot_stride_bytes);
    if (pool.region_offset_bytes >= extent_bytes_max)
        return "region_offset_bytes is " + text(pool.region_offset_bytes);
    return {};
}

finding check_role_layout(const role_layout& x) {
    if (x.num_shards == 0 || x.num_shards > shards_max || x.shard_index >= x.num_shards)
        return "shard_index " + text(x.shard_index) + " of num_shards " + text(x.num_shards);
    if (x.num_replicas == 0 || x.num_replicas > shards_max || x.replica_index >= x.num_replicas)
        return "replica_index " + text(x.replica_index) + " of num_replicas "
               + text(x.num_replicas);
    if (x.kind == mapper_kind::replicated && (x.num_shards != 1 || x.shard_unit_bytes))
        return "a replicated view with num_shards " + text(x.num_shards) + " and shard_unit_bytes "
               + text(x.shard_unit_bytes);
    if (x.shard_unit_bytes == std::uint64_t{0})
        return "shard_unit_bytes is 0";
    if ((x.kind == mapper_kind::sectioned) == x.section_bytes.empty())
        return to_string(x.kind) + " with " + text(x.section_bytes.size()) + " sections";
    for (auto bytes : x.section_bytes)
        if (bytes == 0 || bytes >= extent_bytes_max)
            return "a section of " + text(bytes) + " bytes";
    if (x.tokens_per_row == 0 || (x.token_of_row && *x.token_of_row >= x.tokens_per_row))
        return "token_of_row " + text(x.token_of_row) + " of tokens_per_row "
               + text(x.tokens_per_row);
    if (x.row_stride_bytes >= extent_bytes_max || x.head_stride_bytes >= extent_bytes_max)
        return "row_stride_bytes " + text(x.row_stride_bytes) + " and head_stride_bytes "
               + text(x.head_stride_bytes);
    return {};
}

/// Rows are whole, and those with gaps share no byte.
finding check_rows(const layer_group& group, const role_layout& x, std::uint64_t bytes) {
    const bool has_rows = x.tokens_per_row != 1 || has_gaps(x);
    if (!has_rows)
        return {};
    if (!group.tokens_per_slot || x.kind == mapper_kind::sectioned)
        return "rows of tokens in a " + to_string(x.kind) + " view with tokens_per_slot "
               + text(group.tokens_per_slot);
    if (*group.tokens_per_slot % x.tokens_per_row != 0)
        return "tokens_per_slot " + text(*group.tokens_per_slot)
               + " is not a multiple of tokens_per_row " + text(x.tokens_per_row);
    const std::uint64_t rows = *group.tokens_per_slot / x.tokens_per_row;
    const auto unit = x.shard_unit_bytes.value_or(bytes);
    if (bytes % unit != 0 || unit % rows != 0)
        return "a buffer of " + text(bytes) + " bytes is not made of " + text(rows)
               + " rows with shard_unit_bytes " + text(x.shard_unit_bytes);
    if (!has_gaps(x))
        return {};
    const auto shape = rows_of(x, *group.tokens_per_slot, bytes);
    auto inner = std::pair{shape.rows, shape.row_step};
    auto outer = std::pair{shape.heads, shape.head_step};
    if (inner.second > outer.second)
        std::swap(inner, outer);
    // Steps and counts are below 2^48 and 2^32: compared by division.
    const bool inner_goes = inner.first == 1 || inner.second >= shape.row_bytes;
    const auto inner_extent_max = extent_bytes_max / inner.first;
    const bool outer_goes =
        outer.first == 1
        || (inner.second <= inner_extent_max && outer.second >= inner.first * inner.second);
    if (!inner_goes || !outer_goes || inner.second > inner_extent_max
        || outer.second > extent_bytes_max / outer.first)
        return "rows with row_stride_bytes " + text(x.row_stride_bytes) + " and head_stride_bytes "
               + text(x.head_stride_bytes) + " share bytes";
    return {};
}

/// Entries ascend without overlap, and each stays in one row of slots. In layer-major pools an
/// entry beyond the first stride lies in a later row; rows closer than slot_count would share
/// bytes.
finding check_entries(const layer_group& group, const pool_view& view, const physical_pool& pool) {
    if (view.entries.empty())
        return "no entries";
    const auto stride = pool.slot_stride_bytes;
    const auto section_sum = std::accumulate(view.layout.section_bytes.begin(),
                                             view.layout.section_bytes.end(), std::uint64_t{0});
    const auto tokens = group.tokens_per_slot.value_or(1);
    const buffer_entry* previous = nullptr;
    std::uint64_t previous_end = 0;
    for (const auto& entry : view.entries) {
        const auto where = [&entry] { // nearly no table has a fault
            return "entry at offset " + text(entry.offset_bytes) + " of " + text(entry.bytes)
                   + " bytes ";
        };
        if (entry.local_layer >= group.layers.size())
            return where() + "is of local_layer " + text(entry.local_layer) + " of "
                   + text(group.layers.size());
        if (entry.bytes == 0 || entry.bytes >= extent_bytes_max
            || entry.offset_bytes >= extent_bytes_max)
            return where() + "is out of range";
        if (auto found = check_rows(group, view.layout, entry.bytes); !found.empty())
            return found;
        const auto extent = extent_of(view.layout, tokens, entry.bytes);
        if (entry.offset_bytes % stride + extent > stride)
            return where() + "crosses the slot stride of " + text(stride) + " bytes";
        if (section_sum != 0 && section_sum != entry.bytes)
            return where() + "has sections of " + text(section_sum) + " bytes";
        if (previous) {
            if (entry.offset_bytes < previous_end)
                return where() + "overlaps or precedes the entry before it";
            const auto rows = entry.offset_bytes / stride - previous->offset_bytes / stride;
            if (rows != 0 && rows < pool.slot_count)
                return where() + "lies in another slot of its pool";
        }
        previous = &entry;
        previous_end = entry.offset_bytes + extent;
    }
    return {};
}

/// Every layer of the view has the same number of buffers and the same total of bytes.
finding check_layers(const layer_group& group, const pool_view& view) {
    std::vector<std::uint64_t> bytes(group.layers.size()), buffers(group.layers.size());
    for (const auto& entry : view.entries) {
        bytes[entry.local_layer] += entry.bytes;
        ++buffers[entry.local_layer];
    }
    const auto first = view.entries.front().local_layer;
    for (std::size_t layer = 0; layer < bytes.size(); ++layer)
        if (buffers[layer] != 0
            && (bytes[layer] != bytes[first] || buffers[layer] != buffers[first]))
            return "layer " + text(group.layers[layer]) + " has " + text(bytes[layer])
                   + " bytes in " + text(buffers[layer]) + " buffers, layer "
                   + text(group.layers[first]) + " " + text(bytes[first]) + " in "
                   + text(buffers[first]);
    return {};
}

finding check_view(const page_table& table, const layer_group& group, const pool_view& view) {
    if (view.pool >= table.pools.size())
        return "pool " + text(view.pool) + " of " + text(table.pools.size());
    if (view.roles.empty()
        || std::adjacent_find(view.roles.begin(), view.roles.end(), std::greater_equal<>{})
               != view.roles.end())
        return "roles " + text(view.roles) + " are not sorted names";
    if (auto found = check_role_layout(view.layout); !found.empty())
        return found;
    if (auto found = check_entries(group, view, table.pools[view.pool]); !found.empty())
        return found;
    return check_layers(group, view);
}

finding check_group(const page_table& table, const layer_group& group) {
    auto layers = group.layers;
    std::sort(layers.begin(), layers.end());
    if (auto twice = std::adjacent_find(layers.begin(), layers.end()); twice != layers.end())
        return "layer " + text(*twice) + " is listed twice";
    if (group.tokens_per_slot == 0u)
        return "tokens_per_slot is 0";
    for (std::size_t index = 0; index < group.views.size(); ++index)
        if (auto found = check_view(table, group, group.views[index]); !found.empty())
            return "view " + text(index) + ": " + found;
    return {};
}

} // namespace

caf::error check_page_table(const rank_info& rank) {
    if (!rank.pages)
        return make_error(errc::missing_layout,
                          "{} has published no page table: register its pools first",
                          describe(rank));
    const auto& table = *rank.pages;
    for (std::size_t index = 0; index < table.pools.size(); ++index)
        if (auto found = check_pool(table.pools[index]); !found.empty())
            return detail::bad_layout(rank, "pool " + text(index) + ": " + found);
    for (std::size_t index = 0; index < table.groups.size(); ++index)
        if (auto found = check_group(table, table.groups[index]); !found.empty())
            return detail::bad_layout(rank, "layer group " + text(index) + ": " + found);
    return {};
}

} // namespace kvferry
