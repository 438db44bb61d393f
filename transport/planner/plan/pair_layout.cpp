// SPDX-License-Identifier: Apache-2.0
// Grouping of matched views into parts, and the pieces of unequal blocks.
#include "transport/planner/plan/pair_layout.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <numeric>

namespace kvferry {

namespace {

/// Views in the same pools with the same block lists share one template.
part_layout& part_for(pair_layout& parts, const part_layout& wanted) {
    const auto found = std::find_if(parts.begin(), parts.end(), [&wanted](const part_layout& x) {
        return x.source_group == wanted.source_group && x.target_group == wanted.target_group
               && x.source_pool == wanted.source_pool && x.target_pool == wanted.target_pool;
    });
    return found == parts.end() ? parts.emplace_back(wanted) : *found;
}

/// One period of the two block sizes, cut wherever either side begins a block.
std::vector<block_piece> pieces_of(std::uint32_t source_tokens, std::uint32_t target_tokens) {
    std::vector<block_piece> result;
    const auto period = std::lcm(std::uint64_t{source_tokens}, std::uint64_t{target_tokens});
    for (std::uint64_t at = 0; at < period;) {
        const auto source_block = at / source_tokens;
        const auto target_block = at / target_tokens;
        const auto end =
            std::min((source_block + 1) * source_tokens, (target_block + 1) * target_tokens);
        auto narrow = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
        result.push_back({narrow(source_block),
                          narrow(target_block),
                          {source_tokens, target_tokens, narrow(at % source_tokens),
                           narrow(at % target_tokens), narrow(end - at)},
                          nullptr});
        at = end;
    }
    return result;
}

} // namespace

part_layout only(const part_layout& part, const page_table& source, const layer_range& wanted) {
    auto result = part;
    std::erase_if(result.layers, [&](std::uint32_t layer) { return !wanted.contains(layer); });
    for (auto& pair : result.views)
        std::erase_if(pair.entries, [&](const entry_pair& entry) {
            return !wanted.contains(
                source.groups[pair.source_group].layers[entry.source.local_layer]);
        });
    return result;
}

caf::expected<copy_template> make_template(const part_layout& part, const page_table& source,
                                           const page_table& target, const token_cut& cut) {
    template_builder builder;
    for (const auto& pair : part.views)
        builder.add(pair, source.groups[pair.source_group].views[pair.source_view],
                    target.groups[pair.target_group].views[pair.target_view], cut);
    return builder.finish();
}

caf::expected<pair_layout> make_pair_layout(const rank_info& writer, const rank_info& receiver) {
    auto pairs = match_layouts(writer, receiver);
    if (!pairs)
        return std::move(pairs.error());
    pair_layout result;
    if (!groups_overlap(writer.layout, receiver.layout))
        return result;
    for (auto& pair : *pairs) {
        if (!pair.carries)
            continue;
        const auto& source = writer.pages->groups[pair.source_group];
        const auto& target = receiver.pages->groups[pair.target_group];
        part_layout wanted;
        wanted.source_group = pair.source_group;
        wanted.target_group = pair.target_group;
        wanted.source_pool = source.views[pair.source_view].pool;
        wanted.target_pool = target.views[pair.target_view].pool;
        wanted.source_tokens = source.tokens_per_slot;
        wanted.target_tokens = target.tokens_per_slot;
        part_for(result, wanted).views.push_back(std::move(pair));
    }
    for (auto& part : result) {
        const auto source_tokens = part.source_tokens.value_or(1);
        const auto target_tokens = part.target_tokens.value_or(1);
        part.pieces = pieces_of(source_tokens, target_tokens);
        part.source_period = part.pieces.back().source_block + 1;
        part.target_period = part.pieces.back().target_block + 1;
        for (const auto& pair : part.views)
            for (const auto& entry : pair.entries)
                part.layers.push_back(
                    writer.pages->groups[part.source_group].layers[entry.source.local_layer]);
        std::sort(part.layers.begin(), part.layers.end());
        part.layers.erase(std::unique(part.layers.begin(), part.layers.end()), part.layers.end());
        for (auto& piece : part.pieces) {
            auto made = make_template(part, *writer.pages, *receiver.pages, piece.cut);
            if (!made)
                return add_context(made.error(), "template from {} to {}", describe(writer),
                                   describe(receiver));
            piece.layout = std::make_shared<const copy_template>(std::move(*made));
        }
    }
    return result;
}

} // namespace kvferry
