// SPDX-License-Identifier: Apache-2.0
// The reason behind each pair of ranks.
#include "tools/plan/routes.hpp"
#include "tools/plan/text.hpp"
#include "transport/planner/cohorts.hpp"
#include "transport/planner/shard_overlap.hpp"
#include "transport/planner/topology.hpp"

#include <algorithm>

namespace kvferry::tools {

namespace {

const role_layout& layout_of(const rank_info& rank) {
    return rank.pages->groups.front().views.front().layout;
}

const std::vector<std::uint32_t>& layers_of(const rank_info& rank) {
    return rank.pages->groups.front().layers;
}

bool share_a_layer(const rank_info& a, const rank_info& b) {
    return std::find_first_of(layers_of(a).begin(), layers_of(a).end(), layers_of(b).begin(),
                              layers_of(b).end())
           != layers_of(a).end();
}

/// Heads, counted in units that both sides' shards are whole multiples of.
std::string heads_text(const rank_info& rank, std::uint32_t heads) {
    const auto& layout = layout_of(rank);
    const auto each = heads / layout.num_shards;
    std::vector<std::uint32_t> list;
    for (std::uint32_t head = 0; head < each; ++head)
        list.push_back(layout.shard_index * each + head);
    return "heads " + ranges_text(list);
}

std::string payload_reason(const plan_question& question, const planned_routes& routes,
                           const rank_info& writer, const rank_info& receiver) {
    const bool is_mla = question.model.kind == attention_kind::mla;
    const auto found = std::find_if(routes.receivers.begin(), routes.receivers.end(),
                                    [&receiver](const auto& x) { return x.rank == receiver.rank; });
    const auto& writers = found->writers;
    const auto payload = std::find_if(writers.begin(), writers.end(),
                                      [&writer](const auto& x) { return x.rank == writer.rank; });
    if (payload != writers.end())
        return "sends layers " + ranges_text(payload->layers)
               + (is_mla ? "" : ", its share of " + heads_text(receiver, question.model.kv_heads))
               + ": " + std::to_string(payload->fragments_per_block) + " x "
               + std::to_string(payload->bytes_per_fragment) + " B per block";
    if (!share_a_layer(writer, receiver))
        return "no payload: it has layers " + ranges_text(layers_of(writer))
               + ", the receiver layers " + ranges_text(layers_of(receiver));
    const auto split = overlap_of(layout_of(writer), layout_of(receiver));
    if (split.parts == 0)
        return "no payload: it has " + heads_text(writer, question.model.kv_heads)
               + ", the receiver " + heads_text(receiver, question.model.kv_heads);
    for (const auto& other : writers) {
        const auto& rival = routes.context[other.rank.value];
        if (rival.layout.pp_rank == writer.layout.pp_rank
            && rival.layout.cp_rank == writer.layout.cp_rank
            && layout_of(rival).shard_index == layout_of(writer).shard_index)
            return std::string{"no payload: it holds the same "} + (is_mla ? "latent" : "heads")
                   + " as context " + to_string(other.rank) + ", whose turn it is for DP rank "
                   + std::to_string(dp_rank(receiver.layout));
    }
    return "no payload: their TP or CP shares do not overlap";
}

} // namespace

std::string explain(const plan_question& question, const planned_routes& routes, rank_id writer,
                    rank_id receiver) {
    const auto& from = routes.context[writer.value];
    const auto& to = routes.generation[receiver.value];
    if (dp_rank(from.layout) != question.context_dp)
        return "no writer: DP rank " + std::to_string(dp_rank(from.layout))
               + ", the request runs on " + std::to_string(question.context_dp);
    auto result = payload_reason(question, routes, from, to);
    if (should_send_aux(from, to))
        result += "; aux: the first rank that meets the receiver";
    return result;
}

} // namespace kvferry::tools
