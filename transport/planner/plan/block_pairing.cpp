// SPDX-License-Identifier: Apache-2.0
// Pairing of block positions, with the rules on what may be missing.
#include "transport/planner/plan/block_pairing.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

/// Half-open range of block positions.
struct block_range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

/// The blocks that a slice completes: those that end in it, and the prompt's last block with the
/// prompt's last token.
block_range completed_by(const kv_slice& slice, std::uint32_t tokens_per_slot) {
    auto complete_at = [&slice, tokens_per_slot](std::uint64_t token, bool at_the_end) {
        at_the_end = at_the_end || token >= slice.prompt_tokens;
        return (token + (at_the_end ? tokens_per_slot - 1 : 0)) / tokens_per_slot;
    };
    return {complete_at(slice.tokens.begin, false), complete_at(slice.tokens.end, slice.last)};
}

/// The first token that the token after the prompt attends to; 0 when one side attends to
/// everything. Both windows have dropped blocks that end before it.
std::uint64_t live_from(const layer_group& source, const layer_group& target,
                        std::uint32_t prompt_tokens) {
    if (!source.live_token_window || !target.live_token_window)
        return 0;
    const auto window = std::max(*source.live_token_window, *target.live_token_window);
    const auto next = std::uint64_t{prompt_tokens} + 1;
    return next - std::min<std::uint64_t>(next, window);
}

std::int32_t slot_at(const block_list& list, std::uint64_t block) {
    const auto index = block - list.first_block; // huge when the list begins after the block
    return index < list.slots.size() ? list.slots[index] : no_slot;
}

std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) {
    return (a + b - 1) / b;
}

/// Pairs the slots of one part of one plan.
struct pairing {
    const part_layout& part;
    const rank_info& writer;
    const rank_info& receiver;
    const block_list& source;
    const block_list& target;

    caf::error missing(const std::string& what) const {
        return make_error(
            errc::plan_invalid,
            "{}: {} lists a slot for it in layer group {}, but the slice of {} has none in layer "
            "group {}: list it on the context side, or leave it out on the other",
            what, describe(receiver), part.target_group, describe(writer), part.source_group);
    }

    /// Then each CP rank has a part of every block.
    bool deals_out_tokens() const {
        const auto& views = writer.pages->groups[part.source_group].views;
        return std::all_of(part.views.begin(), part.views.end(), [&views](const view_pair& x) {
            return views[x.source_view].layout.token_of_row.has_value();
        });
    }

    /// Pairs the slots of one piece in all periods: whole ones, and at most one that the prompt
    /// ends in.
    caf::error pair_piece(std::size_t index, block_range wanted, std::uint64_t prompt_tokens,
                          std::uint64_t live_from_token, std::vector<paired_slots>& result) const {
        const auto& piece = part.pieces[index];
        const std::uint64_t source_tokens = *part.source_tokens;
        const bool must_have_all =
            must_have_all_blocks(writer.layout, receiver.layout) || deals_out_tokens();
        auto periods_before = [](std::uint64_t block, std::uint64_t first, std::uint64_t period) {
            return block <= first ? 0 : divide_up(block - first, period);
        };
        const auto begin =
            std::max(periods_before(wanted.begin, piece.source_block, part.source_period),
                     periods_before(target.first_block, piece.target_block, part.target_period));
        const auto end =
            std::min(periods_before(wanted.end, piece.source_block, part.source_period),
                     periods_before(target.first_block + target.slots.size(), piece.target_block,
                                    part.target_period));
        if (begin >= end)
            return {};
        std::vector<slot_pair> whole;
        whole.reserve(end - begin);
        for (auto period = begin; period < end; ++period) {
            const auto source_block = piece.source_block + period * part.source_period;
            const auto target_block = piece.target_block + period * part.target_period;
            const auto first_token = source_block * source_tokens + piece.cut.source_first;
            const auto end_token = first_token + piece.cut.tokens;
            if (first_token >= prompt_tokens)
                break;
            const auto to = slot_at(target, target_block);
            if (to == no_slot)
                continue;
            const auto from = slot_at(source, source_block);
            if (from == no_slot) {
                if (must_have_all && end_token > live_from_token)
                    return missing("block " + std::to_string(source_block));
                continue;
            }
            const slot_pair pair{static_cast<std::uint32_t>(from), static_cast<std::uint32_t>(to)};
            if (end_token <= prompt_tokens || part.pieces.size() == 1)
                whole.push_back(pair);
            else
                result.push_back(
                    {index, static_cast<std::uint32_t>(prompt_tokens - first_token), {pair}});
        }
        if (!whole.empty())
            result.push_back({index, piece.cut.tokens, std::move(whole)});
        return {};
    }

    caf::error pair_state(std::vector<paired_slots>& result) const {
        const auto to = slot_at(target, target.first_block);
        if (to == no_slot)
            return {};
        const auto from = slot_at(source, source.first_block);
        if (from == no_slot)
            return missing("the state");
        result.push_back(
            {0, 1, {{static_cast<std::uint32_t>(from), static_cast<std::uint32_t>(to)}}});
        return {};
    }
};

} // namespace

caf::expected<std::vector<paired_slots>> pair_slots(const part_layout& part,
                                                    const rank_info& writer, const kv_slice& source,
                                                    const rank_info& receiver,
                                                    const kv_slice& target) {
    std::vector<paired_slots> result;
    const pairing pair{part, writer, receiver, source.groups[part.source_group],
                       target.groups[part.target_group]};
    if (!part.source_tokens) {
        const auto ends_here =
            source.layers.is_all() ? source.last : source.tokens.end >= source.prompt_tokens;
        if (ends_here)
            if (auto error = pair.pair_state(result))
                return error;
        return result;
    }
    const auto wanted = completed_by(source, *part.source_tokens);
    const auto live = live_from(writer.pages->groups[part.source_group],
                                receiver.pages->groups[part.target_group], source.prompt_tokens);
    for (std::size_t index = 0; index < part.pieces.size(); ++index)
        if (auto error = pair.pair_piece(index, wanted, source.prompt_tokens, live, result))
            return error;
    return result;
}

} // namespace kvferry
