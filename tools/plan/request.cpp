// SPDX-License-Identifier: Apache-2.0
// Block lists of a whole prompt.
#include "tools/plan/request.hpp"

#include "messages/type_ids.hpp"
#include "transport/planner/plan.hpp"

#include <algorithm>
#include <utility>

namespace kvferry::tools {

namespace {

/// Blocks from `first` on, each in the slot of the same number. Blocks of other CP ranks are left
/// out.
kv_slice slice_from(const plan_question& question, const rank_info& rank, std::uint32_t first) {
    const auto prompt = *question.prompt_tokens;
    block_list blocks{first, {}};
    for (auto block = first; block < slots_of(question); ++block)
        blocks.slots.push_back(block % rank.layout.cp_size == rank.layout.cp_rank
                                   ? static_cast<std::int32_t>(block)
                                   : no_slot);
    return {{0, prompt}, prompt, {std::move(blocks)}, true};
}

/// The first block that the next token's window still reaches.
std::uint32_t first_live_block(const plan_question& question) {
    if (!question.model.window_tokens)
        return 0;
    const auto next = *question.prompt_tokens + 1;
    return (next - std::min(next, *question.model.window_tokens)) / question.model.tokens_per_block;
}

} // namespace

std::uint32_t slots_of(const plan_question& question) {
    const auto block = question.model.tokens_per_block;
    const auto tokens = question.prompt_tokens.value_or(1);
    return block == 0 ? 1 : tokens / block + (tokens % block != 0 ? 1 : 0);
}

caf::expected<moved> request_of(const plan_question& question, const rank_info& writer,
                                const rank_info& receiver) {
    const auto live = first_live_block(question);
    const auto reused = question.reused_prefix_tokens / question.model.tokens_per_block;
    plan_cache cache;
    auto plan = make_plan(writer, slice_from(question, writer, live), receiver,
                          slice_from(question, receiver, std::max(live, reused)), cache);
    if (!plan)
        return plan.error();
    moved result{0, plan->fragments, plan->bytes};
    for (const auto& part : plan->parts)
        result.blocks = std::max<std::uint64_t>(result.blocks, part.slots.size());
    return result;
}

} // namespace kvferry::tools
