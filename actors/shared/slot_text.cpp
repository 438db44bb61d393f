// SPDX-License-Identifier: Apache-2.0
// Looks a slot up in what was asked for.
#include "actors/shared/slot_text.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>

namespace kvferry {

namespace {

bool lies_in(const page_table& pages, std::size_t group, std::uint32_t pool) {
    return group < pages.groups.size()
           && std::any_of(pages.groups[group].views.begin(), pages.groups[group].views.end(),
                          [pool](const auto& view) { return view.pool == pool; });
}

} // namespace

std::string text_of_slot(const page_table& pages, const kv_slice& target, std::uint32_t pool,
                         std::int64_t slot) {
    auto place = fmt::format("slot {} of pool {}", slot, pool);
    for (std::size_t index = 0; index < target.groups.size(); ++index) {
        const auto& group = target.groups[index];
        const auto at = std::find(group.slots.begin(), group.slots.end(), slot);
        if (at != group.slots.end() && lies_in(pages, index, pool))
            return fmt::format("block {} of layer group {} ({})",
                               group.first_block + (at - group.slots.begin()), index, place);
    }
    return place;
}

std::optional<std::pair<std::uint32_t, std::int64_t>>
slot_at(const page_table& pages, std::uint32_t region, std::uint64_t offset) {
    for (std::uint32_t number = 0; number < pages.pools.size(); ++number) {
        const auto& pool = pages.pools[number];
        if (pool.region != region || offset < pool.region_offset_bytes
            || pool.slot_stride_bytes == 0)
            continue;
        const auto inside = offset - pool.region_offset_bytes;
        const auto slot = inside / pool.slot_stride_bytes;
        if (slot < pool.slot_count && inside % pool.slot_stride_bytes < pool.slot_bytes)
            return std::pair{number, static_cast<std::int64_t>(slot)};
    }
    return std::nullopt;
}

} // namespace kvferry
