// SPDX-License-Identifier: Apache-2.0
// Ranges of tokens, and the search for a gap in them.
#include "transport/planner/slice_coverage.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <set>
#include <string>

namespace kvferry {

void slice_coverage::add(const kv_slice& sent) {
    if (sent.tokens.begin >= sent.tokens.end)
        return;
    auto& known = tokens_of_[sent.layers];
    auto fresh = sent.tokens;
    const auto touches = [&fresh](const token_range& x) {
        return x.begin <= fresh.end && fresh.begin <= x.end;
    };
    for (const auto& x : known)
        if (touches(x))
            fresh = {std::min(x.begin, fresh.begin), std::max(x.end, fresh.end)};
    std::erase_if(known, touches);
    known.insert(std::upper_bound(
                     known.begin(), known.end(), fresh,
                     [](const token_range& a, const token_range& b) { return a.begin < b.begin; }),
                 fresh);
}

/// The usual case: one slice, or chunks in order.
bool slice_coverage::speaks_for_all(std::uint64_t prompt_tokens) const {
    const auto found = tokens_of_.find(layer_range{});
    return found != tokens_of_.end() && found->second.front().begin == 0
           && found->second.front().end >= prompt_tokens;
}

std::uint64_t slice_coverage::first_missing(std::uint32_t layer, std::uint64_t from,
                                            std::uint64_t end) const {
    for (auto at = from; at < end;) {
        auto reached = at;
        for (const auto& [layers, ranges] : tokens_of_)
            if (layers.contains(layer))
                for (const auto& x : ranges)
                    if (x.begin <= at && at < x.end)
                        reached = std::max<std::uint64_t>(reached, x.end);
        if (reached == at)
            return at;
        at = reached;
    }
    return end;
}

caf::error slice_coverage::missing(const rank_info& writer, const rank_info& receiver,
                                   const kv_slice& target) const {
    if (speaks_for_all(target.prompt_tokens))
        return {};
    std::set<std::uint32_t> sent_layers;
    for (const auto& group : writer.pages->groups)
        if (group.tokens_per_slot)
            sent_layers.insert(group.layers.begin(), group.layers.end());
    const auto& groups = receiver.pages->groups;
    for (std::size_t index = 0; index < groups.size() && index < target.groups.size(); ++index) {
        if (!groups[index].tokens_per_slot)
            continue;
        const std::uint64_t per_block = *groups[index].tokens_per_slot;
        const auto& list = target.groups[index];
        // Blocks that lie together are looked at together.
        for (std::size_t first = 0; first < list.slots.size();) {
            if (list.slots[first] == no_slot) {
                ++first;
                continue;
            }
            auto last = first;
            while (last < list.slots.size() && list.slots[last] != no_slot)
                ++last;
            const auto from = (list.first_block + first) * per_block;
            const auto end = std::min<std::uint64_t>((list.first_block + last) * per_block,
                                                     target.prompt_tokens);
            first = last;
            for (const auto layer : groups[index].layers) {
                if (!sent_layers.contains(layer))
                    continue;
                const auto gap = first_missing(layer, from, end);
                if (gap < end)
                    return make_error(
                        errc::plan_invalid,
                        "no slice of {} speaks for token {} in layer {}, and {} lists a slot for "
                        "it: the last slice came too early, or one is missing",
                        describe(writer), gap, layer, describe(receiver));
            }
        }
    }
    return {};
}

} // namespace kvferry
