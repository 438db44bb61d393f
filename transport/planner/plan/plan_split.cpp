// SPDX-License-Identifier: Apache-2.0
// Where a plan is cut.
#include "transport/planner/plan/plan_split.hpp"

#include <algorithm>
#include <cstdint>

namespace kvferry {

namespace {

/// Pairs of slots [first, first + count) of a part.
plan_part cut(const plan_part& part, std::size_t first, std::size_t count) {
    if (count == part.slots.size())
        return part;
    const auto* begin = part.slots.begin() + first;
    return {part.source_pool, part.target_pool, part.layout,
            std::vector<slot_pair>{begin, begin + count}};
}

} // namespace

std::vector<copy_plan> split(const copy_plan& plan, std::size_t ways) {
    if (ways <= 1 || plan.bytes == 0
        || std::any_of(plan.parts.begin(), plan.parts.end(),
                       [](const plan_part& part) { return !part.layout; }))
        return {plan};
    std::vector<copy_plan> result;
    std::uint64_t taken = 0;
    result.emplace_back();
    for (const auto& part : plan.parts) {
        const auto pair_bytes = part.layout->bytes;
        for (std::size_t first = 0; first < part.slots.size() && pair_bytes > 0;) {
            // The share that is being filled ends at this byte of the whole plan.
            const auto share_end = plan.bytes * result.size() / ways;
            if (taken >= share_end) {
                result.emplace_back();
                continue;
            }
            const auto wanted = (share_end - taken + pair_bytes - 1) / pair_bytes;
            const auto count = std::min<std::uint64_t>(wanted, part.slots.size() - first);
            auto& share = result.back();
            share.parts.push_back(cut(part, first, count));
            share.bytes += count * pair_bytes;
            share.fragments += count * part.layout->fragments;
            taken += count * pair_bytes;
            first += count;
        }
    }
    std::erase_if(result, [](const copy_plan& share) { return share.bytes == 0; });
    return result;
}

} // namespace kvferry
