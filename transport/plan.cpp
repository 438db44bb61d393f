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

/// Blocks that only the dead side of both windows needs may be missing at the source: those whose
/// tokens end before this one. 0 as soon as one side attends to everything.
std::uint64_t live_from(const layer_group& source, const layer_group& target,
                        std::uint32_t prompt_tokens) {
    if (!source.live_token_window || !target.live_token_window)
        return 0;
    const auto window = std::max(*source.live_token_window, *target.live_token_window);
    const auto next = std::uint64_t{prompt_tokens} + 1; // the window reaches back from the next token
    return next - std::min<std::uint64_t>(next, window);
}

/// One part's pairing of positions.
struct pairing {
    const rank_info& writer;
    const rank_info& receiver;
    const part_layout& part;
    const block_list& source;
    const block_list& target;

    /// What the target waits for and the source does not have.
    caf::error missing(const std::string& what) const {
        return make_error(errc::plan_invalid,
                          what + ": " + describe(receiver) + " lists a slot for it in layer group " +
                              std::to_string(part.target_group) + ", the slice of " +
                              describe(writer) + " has none in layer group " +
                              std::to_string(part.source_group) +
                              ": list the slot on the context side or leave it out on the other");
    }

    caf::expected<std::vector<slot_pair>> blocks(block_range wanted,
                                                 std::uint64_t live_from_token) const {
        const auto begin = std::max<std::uint64_t>(target.first_block, wanted.begin);
        const auto end =
            std::min<std::uint64_t>(target.first_block + target.slots.size(), wanted.end);
        // Which blocks a context rank under CP holds, only it knows.
        const bool must_have_all = writer.layout.cp_size == 1;
        std::vector<slot_pair> pairs;
        if (begin >= end)
            return pairs;
        pairs.reserve(end - begin);
        for (auto block = begin; block < end; ++block) {
            const auto to = target.slots[block - target.first_block];
            if (to == no_slot)
                continue;
            const auto index = block - source.first_block; // huge when the list begins behind it
            const auto from = index < source.slots.size() ? source.slots[index] : no_slot;
            if (from != no_slot)
                pairs.push_back({static_cast<std::uint32_t>(from), static_cast<std::uint32_t>(to)});
            else if (must_have_all && (block + 1) * *part.tokens_per_slot > live_from_token)
                return missing("block " + std::to_string(block));
        }
        return pairs;
    }

    caf::expected<std::vector<slot_pair>> states() const {
        std::vector<slot_pair> pairs;
        if (target.slots.empty() || target.slots.front() == no_slot)
            return pairs;
        if (source.slots.empty() || source.slots.front() == no_slot)
            return missing("the state");
        pairs.push_back({static_cast<std::uint32_t>(source.slots.front()),
                         static_cast<std::uint32_t>(target.slots.front())});
        return pairs;
    }
};

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
        const pairing pair{writer, receiver, part, source.groups[part.source_group],
                           target.groups[part.target_group]};
        caf::expected<std::vector<slot_pair>> slots{std::vector<slot_pair>{}};
        if (part.tokens_per_slot)
            slots = pair.blocks(blocks_of(source, *part.tokens_per_slot),
                                live_from(writer.pages->groups[part.source_group],
                                          receiver.pages->groups[part.target_group],
                                          source.prompt_tokens));
        else if (source.last)
            slots = pair.states();
        if (!slots)
            return std::move(slots.error());
        if (slots->empty())
            continue;
        plan.bytes += part.layout->bytes * slots->size();
        plan.fragments += part.layout->fragments * slots->size();
        plan.parts.push_back({part.source_pool, part.target_pool, part.layout, std::move(*slots)});
    }
    return plan;
}

} // namespace kvferry
