// SPDX-License-Identifier: Apache-2.0
// The reason behind each pair of ranks.
#include "tools/plan/groups.hpp"
#include "tools/plan/text.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/shard_overlap.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>

namespace kvferry::tools {

namespace {

/// One view of a rank, with its group.
struct view_of_rank {
    const layer_group* group = nullptr;
    const pool_view* view = nullptr;

    const role_layout& layout() const { return view->layout; }
};

std::vector<std::uint32_t> layers_of(const rank_info& rank) {
    std::vector<std::uint32_t> result;
    for (const auto& group : rank.pages->groups)
        result.insert(result.end(), group.layers.begin(), group.layers.end());
    std::sort(result.begin(), result.end());
    result.erase(std::unique(result.begin(), result.end()), result.end());
    return result;
}

/// The first views of two ranks with a role and a layer in common. Ranks without any hold nothing
/// of each other.
std::optional<std::pair<view_of_rank, view_of_rank>> common_views(const rank_info& a,
                                                                  const rank_info& b) {
    const auto meet = [](const auto& x, const auto& y) {
        return std::find_first_of(x.begin(), x.end(), y.begin(), y.end()) != x.end();
    };
    for (const auto& own_group : a.pages->groups)
        for (const auto& own : own_group.views)
            for (const auto& group : b.pages->groups)
                for (const auto& view : group.views)
                    if (meet(own_group.layers, group.layers) && meet(own.roles, view.roles))
                        return std::pair{view_of_rank{&own_group, &own},
                                         view_of_rank{&group, &view}};
    return std::nullopt;
}

/// "heads 0-1"; "its share" where heads have no numbers.
std::string heads_text(const view_of_rank& x) {
    const auto& layout = x.layout();
    if (!layout.shard_unit_bytes)
        return "shard " + std::to_string(layout.shard_index) + " of "
               + std::to_string(layout.num_shards);
    const auto each = x.view->entries.front().bytes / *layout.shard_unit_bytes;
    std::vector<std::uint32_t> list;
    for (std::uint64_t head = 0; head < each; ++head)
        list.push_back(static_cast<std::uint32_t>(layout.shard_index * each + head));
    return "heads " + ranges_text(list);
}

std::string moves_text(const planned_writer& writer, const view_of_rank& target) {
    std::string result;
    for (const auto& move : writer.moves) {
        result += (result.empty() ? "sends layers " : "; layers ") + ranges_text(move.layers);
        if (writer.moves.size() > 1)
            result += " (" + roles_text(move.roles) + ")";
        else if (target.layout().kind != mapper_kind::replicated
                 && std::count(move.roles.begin(), move.roles.end(), target.view->roles.front()))
            result += ", its share of " + heads_text(target);
        result += ": " + fragments_text(move) + " B per "
                  + (move.block_tokens ? "block"
                     : move.tokens     ? std::to_string(*move.tokens) + " tokens"
                                       : "request");
    }
    return result;
}

std::string payload_reason(const plan_question& question, const planned_routes& routes,
                           const rank_info& writer, const rank_info& receiver) {
    const auto found = std::find_if(routes.receivers.begin(), routes.receivers.end(),
                                    [&receiver](const auto& x) { return x.rank == receiver.rank; });
    const auto& writers = found->writers;
    const auto payload = std::find_if(writers.begin(), writers.end(),
                                      [&writer](const auto& x) { return x.rank == writer.rank; });
    const auto views = common_views(writer, receiver);
    if (!views)
        return "no payload: it has layers " + ranges_text(layers_of(writer))
               + ", the receiver layers " + ranges_text(layers_of(receiver));
    const auto& [own, theirs] = *views;
    if (payload != writers.end())
        return moves_text(*payload, theirs);
    if (overlap_of(own.layout(), theirs.layout()).parts == 0)
        return "no payload: it has " + heads_text(own) + ", the receiver " + heads_text(theirs);
    for (const auto& other : writers) {
        const auto& rival = question.context[other.rank.value];
        const auto rivals = common_views(rival, receiver);
        if (rivals && rival.layout.pp_rank == writer.layout.pp_rank
            && rival.layout.cp_rank == writer.layout.cp_rank
            && rivals->first.layout().shard_index == own.layout().shard_index)
            return std::string{"no payload: it holds the same "}
                   + (own.layout().kind == mapper_kind::replicated ? "latent" : "heads")
                   + " as context " + to_string(other.rank) + ", whose turn it is for DP rank "
                   + std::to_string(dp_rank(receiver.layout));
    }
    return "no payload: their TP or CP shares do not overlap";
}

} // namespace

std::string explain(const plan_question& question, const planned_routes& routes, rank_id writer,
                    rank_id receiver) {
    const auto& from = question.context[writer.value];
    const auto& to = question.generation[receiver.value];
    if (dp_rank(from.layout) != question.context_dp)
        return "no writer: DP rank " + std::to_string(dp_rank(from.layout))
               + ", the request runs on " + std::to_string(question.context_dp);
    auto result = payload_reason(question, routes, from, to);
    if (should_send_aux(from, to))
        result += "; aux: the first rank that meets the receiver";
    return result;
}

} // namespace kvferry::tools
