// SPDX-License-Identifier: Apache-2.0
// Block lists of a whole prompt.
#include "tools/plan/request.hpp"

#include "messages/type_ids.hpp"
#include "transport/planner/plan/plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry::tools {

namespace {

/// The first block that the next token's window still reaches.
std::uint32_t first_live_block(const layer_group& group, std::uint32_t prompt) {
    if (!group.live_token_window)
        return 0;
    const auto next = prompt + 1;
    return (next - std::min(next, *group.live_token_window)) / *group.tokens_per_slot;
}

/// Blocks behind the first `reused` tokens, each in the slot of the same number, without those that
/// the window has passed and those of other CP ranks. A state is in slot 0.
kv_slice slice_of(const rank_info& rank, std::uint32_t prompt, std::uint32_t reused) {
    kv_slice result{{0, prompt}, prompt, {}, true};
    for (const auto& group : rank.pages->groups) {
        if (!group.tokens_per_slot) {
            result.groups.push_back({0, {0}});
            continue;
        }
        const auto tokens = *group.tokens_per_slot;
        const auto first = std::max(first_live_block(group, prompt), reused / tokens);
        // CP ranks that deal out tokens have a part of every block.
        const bool has_all = std::any_of(group.views.begin(), group.views.end(), [](const auto& x) {
            return x.layout.token_of_row.has_value();
        });
        block_list blocks{first, {}};
        for (auto block = first; std::uint64_t{block} * tokens < prompt; ++block)
            blocks.slots.push_back(has_all || block % rank.layout.cp_size == rank.layout.cp_rank
                                       ? static_cast<std::int32_t>(block)
                                       : no_slot);
        result.groups.push_back(std::move(blocks));
    }
    return result;
}

} // namespace

caf::expected<moved> request_of(const plan_question& question, const rank_info& writer,
                                const rank_info& receiver) {
    const auto prompt = *question.prompt_tokens;
    plan_cache cache;
    auto plan = make_plan(writer, slice_of(writer, prompt, 0), receiver,
                          slice_of(receiver, prompt, question.reused_prefix_tokens), cache);
    if (!plan)
        return plan.error();
    moved result{0, plan->fragments, plan->bytes};
    for (const auto& part : plan->parts)
        result.blocks = std::max<std::uint64_t>(result.blocks, part.slots.size());
    return result;
}

} // namespace kvferry::tools
