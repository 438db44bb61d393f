// SPDX-License-Identifier: Apache-2.0
// Pairing of block positions.
#include "transport/plan.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

/// Half-open range of block positions.
struct block_range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

caf::error check_shape(const rank_info& rank, const kv_slice& slice) {
    const auto& groups = rank.pages->groups;
    if (slice.groups.size() != groups.size())
        return make_error(errc::invalid_argument,
                          "slice of " + describe(rank) + ": " +
                              std::to_string(slice.groups.size()) + " block lists for the " +
                              std::to_string(groups.size()) + " layer groups of its page table");
    if (slice.tokens.begin > slice.tokens.end)
        return make_error(errc::invalid_argument,
                          "slice of " + describe(rank) + ": tokens begin at " +
                              std::to_string(slice.tokens.begin) + " and end at " +
                              std::to_string(slice.tokens.end));
    for (std::size_t index = 0; index < groups.size(); ++index)
        if (!groups[index].tokens_per_slot && slice.groups[index].slots.size() > 1)
            return make_error(errc::invalid_argument,
                              "slice of " + describe(rank) + ": layer group " +
                                  std::to_string(index) + " has one slot per request, " +
                                  std::to_string(slice.groups[index].slots.size()) + " are listed");
    return {};
}

/// The blocks that the slice completes: those that end in it, and the prompt's last block with the
/// prompt's last token.
block_range blocks_of(const kv_slice& slice, std::uint32_t tokens_per_slot) {
    auto complete_at = [&slice, tokens_per_slot](std::uint64_t token, bool at_the_end) {
        at_the_end = at_the_end || token >= slice.prompt_tokens;
        return (token + (at_the_end ? tokens_per_slot - 1 : 0)) / tokens_per_slot;
    };
    return {complete_at(slice.tokens.begin, false), complete_at(slice.tokens.end, slice.last)};
}

void add_pair(std::vector<slot_pair>& pairs, std::int32_t source, std::int32_t target) {
    if (source != no_slot && target != no_slot)
        pairs.push_back({static_cast<std::uint32_t>(source), static_cast<std::uint32_t>(target)});
}

std::vector<slot_pair> pair_blocks(const block_list& source, const block_list& target,
                                   block_range wanted) {
    const auto begin =
        std::max<std::uint64_t>({source.first_block, target.first_block, wanted.begin});
    const auto end =
        std::min<std::uint64_t>({source.first_block + source.slots.size(),
                                 target.first_block + target.slots.size(), wanted.end});
    std::vector<slot_pair> pairs;
    if (begin >= end)
        return pairs;
    pairs.reserve(end - begin);
    for (auto block = begin; block < end; ++block)
        add_pair(pairs, source.slots[block - source.first_block],
                 target.slots[block - target.first_block]);
    return pairs;
}

std::vector<slot_pair> pair_states(const block_list& source, const block_list& target) {
    std::vector<slot_pair> pairs;
    if (!source.slots.empty() && !target.slots.empty())
        add_pair(pairs, source.slots.front(), target.slots.front());
    return pairs;
}

} // namespace

caf::expected<copy_plan> make_plan(const rank_info& writer, const kv_slice& source,
                                   const rank_info& receiver, const kv_slice& target,
                                   plan_cache& cache) {
    auto layout = cache.find_or_make(writer, receiver);
    if (!layout)
        return std::move(layout.error());
    if (auto error = check_shape(writer, source))
        return error;
    if (auto error = check_shape(receiver, target))
        return error;
    copy_plan plan;
    for (const auto& part : **layout) {
        const auto& from = source.groups[part.source_group];
        const auto& to = target.groups[part.target_group];
        std::vector<slot_pair> slots;
        if (part.tokens_per_slot)
            slots = pair_blocks(from, to, blocks_of(source, *part.tokens_per_slot));
        else if (source.last)
            slots = pair_states(from, to);
        if (slots.empty())
            continue;
        plan.bytes += part.layout->bytes * slots.size();
        plan.fragments += part.layout->fragments * slots.size();
        plan.parts.push_back({part.source_pool, part.target_pool, part.layout, std::move(slots)});
    }
    return plan;
}

} // namespace kvferry
