// SPDX-License-Identifier: Apache-2.0
// Makes a plan from two slices and the templates of their ranks.
#include "transport/planner/plan/plan.hpp"

#include "messages/local/recycled_containers.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/block_pairing.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

caf::error check_shape(const rank_info& rank, const kv_slice& slice) {
    const auto& groups = rank.pages->groups;
    if (slice.groups.size() != groups.size())
        return make_error(errc::invalid_argument,
                          "slice of {}: {} block lists for the {} layer groups of its page table",
                          describe(rank), slice.groups.size(), groups.size());
    if (auto error = check_tokens(slice))
        return add_context(error, "slice of {}", describe(rank));
    for (std::size_t index = 0; index < groups.size(); ++index)
        if (!groups[index].tokens_per_slot && slice.groups[index].slots.size() > 1)
            return make_error(errc::invalid_argument,
                              "slice of {}: layer group {} has one slot per request, {} are listed",
                              describe(rank), index, slice.groups[index].slots.size());
    return {};
}

} // namespace

caf::error check_tokens(const kv_slice& slice) {
    if (slice.layers.begin >= slice.layers.end)
        return make_error(errc::invalid_argument,
                          "layers begin at {} and end at {}: give begin < end", slice.layers.begin,
                          slice.layers.end);
    if (slice.tokens.begin <= slice.tokens.end && slice.tokens.end <= slice.prompt_tokens)
        return {};
    return make_error(errc::invalid_argument,
                      "tokens begin at {} and end at {}, the prompt has {}: give 0 <= begin <= end "
                      "<= prompt_tokens",
                      slice.tokens.begin, slice.tokens.end, slice.prompt_tokens);
}

caf::expected<copy_plan> make_plan(const rank_info& writer, const kv_slice& source,
                                   const rank_info& receiver, const kv_slice& target,
                                   plan_cache& cache) {
    auto layout = cache.find_or_make(writer, receiver);
    if (!layout)
        return std::move(layout.error());
    return make_plan(writer, source, receiver, target, **layout);
}

caf::expected<copy_plan> make_plan(const rank_info& writer, const kv_slice& source,
                                   const rank_info& receiver, const kv_slice& target,
                                   const pair_layout& pair) {
    if (auto error = check_shape(writer, source))
        return error;
    if (auto error = check_shape(receiver, target))
        return error;
    if (!target.layers.is_all())
        return make_error(errc::invalid_argument, "slice of {}: a receiver takes all of its layers",
                          describe(receiver));
    if (source.prompt_tokens != target.prompt_tokens)
        return make_error(
            errc::invalid_argument, "prompt_tokens: the slice of {} has {}, that of {} has {}",
            describe(writer), source.prompt_tokens, describe(receiver), target.prompt_tokens);
    copy_plan plan;
    const auto wanted = [&source](std::uint32_t layer) { return source.layers.contains(layer); };
    // Parts of the same groups differ in their pools only: what is in them has the same slots.
    recycled_map<std::pair<std::uint32_t, std::uint32_t>, std::vector<paired_slots>> of_groups;
    for (const auto& whole : pair) {
        if (std::none_of(whole.layers.begin(), whole.layers.end(), wanted))
            continue;
        const bool clipped = !std::all_of(whole.layers.begin(), whole.layers.end(), wanted);
        const auto fewer_layers =
            clipped ? std::optional{only(whole, *writer.pages, source.layers)} : std::nullopt;
        const auto& part = clipped ? *fewer_layers : whole;
        auto [known, fresh] = of_groups.try_emplace({part.source_group, part.target_group});
        if (fresh) {
            auto paired = pair_slots(part, writer, source, receiver, target);
            if (!paired)
                return std::move(paired.error());
            known->second = std::move(*paired);
        }
        for (const auto& [index, tokens, slots] : known->second) {
            const auto& piece = part.pieces[index];
            auto layout = piece.layout;
            // Made anew: the block in which the prompt ends, at most one, and parts of a pool.
            if (tokens != piece.cut.tokens || clipped) {
                auto cut = piece.cut;
                cut.tokens = tokens;
                auto made = make_template(part, *writer.pages, *receiver.pages, cut);
                if (!made)
                    return std::move(made.error());
                layout = std::make_shared<const copy_template>(std::move(*made));
            }
            if (layout->runs.empty())
                continue; // CP ranks deal out tokens, and none of these is the writer's
            plan.bytes += layout->bytes * slots.size();
            plan.fragments += layout->fragments * slots.size();
            plan.parts.push_back({part.source_pool, part.target_pool, std::move(layout), slots});
        }
    }
    return plan;
}

} // namespace kvferry
