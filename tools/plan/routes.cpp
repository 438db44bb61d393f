// SPDX-License-Identifier: Apache-2.0
// Asks the planner for the routes between two instances.
#include "tools/plan/routes.hpp"

#include "messages/type_ids.hpp"
#include "tools/plan/request.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/plan/pair_layout.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

namespace kvferry::tools {

namespace {

/// Adds one part to what moves between its two groups.
void add_part(planned_move& move, std::set<std::uint32_t>& layers, std::set<std::string>& roles,
              const part_layout& part, const page_table& source, const page_table& target) {
    if (part.source_tokens)
        move.tokens = std::uint64_t{part.source_period} * *part.source_tokens;
    if (part.source_tokens == part.target_tokens)
        move.block_tokens = part.source_tokens;
    for (const auto& piece : part.pieces) {
        move.fragments += piece.layout->fragments;
        move.bytes += piece.layout->bytes;
        for (const auto& x : piece.layout->runs)
            move.bytes_per_fragment = std::max(move.bytes_per_fragment, x.bytes);
    }
    for (const auto& view : part.views) {
        for (const auto& entry : view.entries)
            layers.insert(source.groups[part.source_group].layers[entry.source.local_layer]);
        const auto& own = source.groups[view.source_group].views[view.source_view].roles;
        const auto& theirs = target.groups[view.target_group].views[view.target_view].roles;
        std::set_intersection(own.begin(), own.end(), theirs.begin(), theirs.end(),
                              std::inserter(roles, roles.end()));
    }
}

/// What one writer sends to one receiver, group by group.
planned_writer writer_of(const rank_info& writer, const rank_info& receiver,
                         const pair_layout& parts) {
    struct group_pair {
        planned_move move;
        std::set<std::uint32_t> layers;
        std::set<std::string> roles;
    };
    std::map<std::pair<std::uint32_t, std::uint32_t>, group_pair> pairs;
    for (const auto& part : parts) {
        auto& x = pairs[{part.target_group, part.source_group}];
        add_part(x.move, x.layers, x.roles, part, *writer.pages, *receiver.pages);
    }
    planned_writer result{writer.rank, {}, {}};
    for (auto& [groups, x] : pairs) {
        x.move.layers.assign(x.layers.begin(), x.layers.end());
        x.move.roles.assign(x.roles.begin(), x.roles.end());
        result.moves.push_back(std::move(x.move));
    }
    return result;
}

caf::expected<planned_receiver> receiver_of(const plan_question& question,
                                            const rank_info& receiver) {
    const auto& context = question.context;
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
    std::set<std::optional<std::uint32_t>> block_sizes;
    for (auto rank : found->kv) {
        const auto& writer = context[rank.value];
        auto parts = make_pair_layout(writer, receiver);
        if (!parts)
            return parts.error();
        auto one = writer_of(writer, receiver, *parts);
        for (const auto& move : one.moves) {
            bytes_by_cp_rank[writer.layout.cp_rank] += move.bytes;
            block_sizes.insert(move.block_tokens);
        }
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
    if (block_sizes.size() == 1 && block_sizes.begin()->has_value())
        result.bytes_per_block =
            std::max_element(bytes_by_cp_rank.begin(), bytes_by_cp_rank.end(),
                             [](const auto& a, const auto& b) { return a.second < b.second; })
                ->second;
    return result;
}

} // namespace

std::vector<std::uint32_t> planned_writer::layers() const {
    std::set<std::uint32_t> all;
    for (const auto& move : moves)
        all.insert(move.layers.begin(), move.layers.end());
    return {all.begin(), all.end()};
}

caf::expected<planned_routes> plan_routes(const plan_question& question) {
    planned_routes result;
    for (const auto& receiver : question.generation) {
        if (dp_rank(receiver.layout) != question.generation_dp)
            continue;
        auto one = receiver_of(question, receiver);
        if (!one)
            return one.error();
        result.receivers.push_back(std::move(*one));
    }
    for (const auto& writer : question.context)
        if (dp_rank(writer.layout) == question.context_dp)
            result.senders.push_back({writer.rank, receivers_of(writer, question.generation,
                                                                question.generation_dp, true)});
    return result;
}

} // namespace kvferry::tools
