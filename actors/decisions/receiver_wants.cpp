// SPDX-License-Identifier: Apache-2.0
// The first slot of a list says where its prefix ends.
#include "actors/decisions/receiver_wants.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvferry {

receiver_wants wants_of(const rank_info& receiver, const kv_slice& target) {
    receiver_wants result{receiver.rank, target.prompt_tokens, target.prompt_tokens, 0};
    auto in_windows = target.prompt_tokens;
    bool any_without_window = false;
    if (!receiver.pages)
        return result;
    const auto& groups = receiver.pages->groups;
    for (std::size_t index = 0; index < groups.size() && index < target.groups.size(); ++index) {
        const auto& slots = target.groups[index].slots;
        const auto is_slot = [](std::int32_t slot) { return slot != no_slot; };
        result.blocks +=
            static_cast<std::uint64_t>(std::count_if(slots.begin(), slots.end(), is_slot));
        const auto per_block = groups[index].tokens_per_slot;
        if (!per_block)
            continue; // a state has no prefix
        any_without_window = any_without_window || !groups[index].live_token_window;
        const auto first = std::find_if(slots.begin(), slots.end(), is_slot);
        if (first == slots.end())
            continue;
        const auto block = target.groups[index].first_block + std::uint64_t(first - slots.begin());
        auto& prefix = groups[index].live_token_window ? in_windows : result.prefix_tokens;
        prefix = static_cast<std::uint32_t>(std::min<std::uint64_t>(prefix, block * *per_block));
    }
    if (!any_without_window)
        result.prefix_tokens = in_windows;
    return result;
}

} // namespace kvferry
