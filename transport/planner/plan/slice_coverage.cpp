// SPDX-License-Identifier: Apache-2.0
// Ranges of tokens, and the search for a gap in them.
#include "transport/planner/plan/slice_coverage.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

namespace kvferry {

namespace {

struct stretch {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

/// The tokens of the prompt whose blocks have a slot; blocks that lie together are one stretch.
std::vector<stretch> listed_tokens(const block_list& list, std::uint64_t per_block,
                                   std::uint64_t prompt_tokens) {
    std::vector<stretch> result;
    auto block = std::uint64_t{list.first_block};
    for (const auto slot : list.slots) {
        const auto begin = block++ * per_block;
        const auto end = std::min(block * per_block, prompt_tokens);
        if (slot == no_slot || begin >= end)
            continue;
        if (!result.empty() && result.back().end == begin)
            result.back().end = end;
        else
            result.push_back({begin, end});
    }
    return result;
}

} // namespace

void slice_coverage::add(const kv_slice& sent) {
    has_last_ = has_last_ || sent.last;
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
    constexpr auto all_layers = std::numeric_limits<std::uint32_t>::max();
    for (auto at = from; at < end;) {
        auto reached = at;
        // Those that begin latest first: of a slice per layer that is the layer's own.
        for (auto next = tokens_of_.upper_bound({layer, all_layers});
             next != tokens_of_.begin() && reached < end;) {
            const auto& [layers, ranges] = *--next;
            if (!layers.contains(layer))
                continue;
            for (const auto& x : ranges)
                if (x.begin <= at && at < x.end)
                    reached = std::max<std::uint64_t>(reached, x.end);
        }
        if (reached == at)
            return at;
        at = reached;
    }
    return end;
}

/// A recurrent state travels with the slice of its layer that ends the prompt; of slices of all
/// layers with the last.
bool slice_coverage::has_state(std::uint32_t layer, std::uint32_t prompt_tokens) const {
    if (tokens_of_.contains(layer_range{}) && !has_last_)
        return false;
    return prompt_tokens == 0
           || first_missing(layer, prompt_tokens - 1, prompt_tokens) == prompt_tokens;
}

std::uint32_t slice_coverage::first_missing_layer(const rank_info& writer,
                                                  const rank_info& receiver, const kv_slice& target,
                                                  std::uint32_t from) const {
    std::set<std::uint32_t> sent_layers;
    for (const auto& group : writer.pages->groups)
        sent_layers.insert(group.layers.begin(), group.layers.end());
    auto result = std::numeric_limits<std::uint32_t>::max();
    const auto& groups = receiver.pages->groups;
    for (std::size_t index = 0; index < groups.size() && index < target.groups.size(); ++index) {
        const auto& list = target.groups[index];
        const auto& per_block = groups[index].tokens_per_slot;
        const auto listed = per_block ? listed_tokens(list, *per_block, target.prompt_tokens)
                                      : std::vector<stretch>{};
        const auto is_missing = [&](std::uint32_t layer) {
            if (!per_block)
                return !list.slots.empty() && !has_state(layer, target.prompt_tokens);
            return std::any_of(listed.begin(), listed.end(), [&](const stretch& x) {
                return first_missing(layer, x.begin, x.end) < x.end;
            });
        };
        for (const auto layer : groups[index].layers)
            if (layer >= from && layer < result && sent_layers.contains(layer) && is_missing(layer))
                result = layer;
    }
    return result;
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
        const auto listed = listed_tokens(target.groups[index], *groups[index].tokens_per_slot,
                                          target.prompt_tokens);
        for (const auto& [begin, end] : listed)
            for (const auto layer : groups[index].layers)
                if (const auto gap = first_missing(layer, begin, end);
                    gap < end && sent_layers.contains(layer))
                    return make_error(
                        errc::plan_invalid,
                        "no slice of {} speaks for token {} in layer {}, and {} lists a slot for "
                        "it: the last slice came too early, or one is missing",
                        describe(writer), gap, layer, describe(receiver));
    }
    return {};
}

} // namespace kvferry
