// SPDX-License-Identifier: Apache-2.0
// Builds instances of the default cache format and asks the planner for their routes.
#include "tools/plan/routes.hpp"

#include "messages/type_ids.hpp"
#include "tools/plan/request.hpp"
#include "transport/planner/cohorts.hpp"
#include "transport/planner/pair_layout.hpp"
#include "transport/planner/topology.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace kvferry::tools {

namespace {

caf::expected<std::vector<rank_info>> ranks_of(const char* name, const instance_split& split,
                                               const plan_question& question) {
    std::vector<rank_info> result;
    auto model = question.model;
    model.layers = split.layers;
    model.first_layer = split.first_layer;
    const auto size = split.tp * split.pp * split.cp;
    for (std::uint32_t index = 0; index < size; ++index) {
        rank_info rank;
        rank.instance = name;
        rank.rank = rank_id{index};
        rank.world_size = size;
        rank.layout = {split.tp,           index / split.cp % split.tp,
                       split.pp,           index / split.cp / split.tp,
                       split.cp,           index % split.cp,
                       split.attention_dp, split.layers_per_stage};
        auto pages = build_page_table(model, rank.layout, {slots_of(question), 0, 0});
        if (!pages)
            return add_context(pages.error(), name);
        rank.pages = std::move(*pages);
        result.push_back(std::move(rank));
    }
    return result;
}

/// What one writer sends to one receiver, for one block.
planned_writer writer_of(const rank_info& writer, const pair_layout& parts) {
    planned_writer result;
    result.rank = writer.rank;
    std::set<std::uint32_t> layers;
    for (const auto& part : parts) {
        const auto& layout = *part.pieces.front().layout;
        result.fragments_per_block += layout.fragments;
        result.bytes_per_block += layout.bytes;
        for (const auto& x : layout.runs)
            result.bytes_per_fragment = std::max(result.bytes_per_fragment, x.bytes);
        for (const auto& view : part.views)
            for (const auto& entry : view.entries)
                layers.insert(
                    writer.pages->groups[part.source_group].layers[entry.source.local_layer]);
    }
    result.layers.assign(layers.begin(), layers.end());
    return result;
}

caf::expected<planned_receiver> receiver_of(const plan_question& question,
                                            const rank_info& receiver,
                                            const std::vector<rank_info>& context) {
    auto found = cohorts_of(receiver, context, question.context_dp, question.allowed);
    if (!found)
        return found.error();
    planned_receiver result;
    result.rank = receiver.rank;
    result.aux_writer = found->aux.front();
    result.layers_skipped = found->layers_skipped;
    result.roles_skipped = found->roles_skipped;
    // With CP on the context side, each CP rank has different blocks, but all blocks have this
    // size.
    std::map<std::uint32_t, std::uint64_t> bytes_by_cp_rank;
    for (auto rank : found->kv) {
        const auto& writer = context[rank.value];
        auto parts = make_pair_layout(writer, receiver);
        if (!parts)
            return parts.error();
        auto one = writer_of(writer, *parts);
        auto& bytes = bytes_by_cp_rank[writer.layout.cp_rank];
        bytes += one.bytes_per_block;
        result.bytes_per_block = std::max(result.bytes_per_block, bytes);
        if (question.prompt_tokens) {
            auto moves = request_of(question, writer, receiver);
            if (!moves)
                return moves.error();
            one.request = *moves;
            auto& all = result.request ? *result.request : result.request.emplace();
            all.blocks = std::max(all.blocks, moves->blocks);
            all.fragments += moves->fragments;
            all.bytes += moves->bytes;
        }
        result.writers.push_back(std::move(one));
    }
    return result;
}

} // namespace

caf::expected<planned_routes> plan_routes(const plan_question& question) {
    planned_routes result;
    auto context = ranks_of("context", question.context, question);
    if (!context)
        return context.error();
    auto generation = ranks_of("generation", question.generation, question);
    if (!generation)
        return generation.error();
    result.context = std::move(*context);
    result.generation = std::move(*generation);
    for (const auto& receiver : result.generation) {
        if (dp_rank(receiver.layout) != question.generation_dp)
            continue;
        auto one = receiver_of(question, receiver, result.context);
        if (!one)
            return one.error();
        result.receivers.push_back(std::move(*one));
    }
    for (const auto& writer : result.context)
        if (dp_rank(writer.layout) == question.context_dp)
            result.senders.push_back({writer.rank, receivers_of(writer, result.generation,
                                                                question.generation_dp, true)});
    return result;
}

} // namespace kvferry::tools
