// SPDX-License-Identifier: Apache-2.0
// Rank arithmetic: stages, DP groups, and the overlap of two instances.
#include "transport/planner/layout/topology.hpp"

#include "transport/planner/layout/layout_error.hpp"

#include <algorithm>
#include <limits>

namespace kvferry {

namespace {

using detail::bad_layout;
using detail::mismatch;
using detail::text;

/// Also for layouts that check_parallelism has not seen.
std::uint32_t ranks_of_group(const parallelism& x) {
    return std::max(x.attention_tp_size, 1u);
}

/// Whether two parts overlap: each axis is cut into equal parts.
bool parts_overlap(std::uint64_t a_size, std::uint64_t a_index, std::uint64_t b_size,
                   std::uint64_t b_index) {
    return a_index * b_size < (b_index + 1) * a_size && b_index * a_size < (a_index + 1) * b_size;
}

std::vector<rank_id> overlapping(const rank_info& self, const std::vector<rank_info>& peers,
                                 std::uint32_t peer_dp_rank) {
    std::vector<rank_id> result;
    for (const auto& peer : peers)
        if (dp_rank(peer.layout) == peer_dp_rank && groups_overlap(self.layout, peer.layout)
            && stages_overlap(self.layout, peer.layout))
            result.push_back(peer.rank);
    std::sort(result.begin(), result.end());
    return result;
}

} // namespace

rank_id instance_rank(const parallelism& x) {
    return rank_id{(x.pp_rank * x.tp_size + x.tp_rank) * x.cp_size + x.cp_rank};
}

stage_layers global_layers(const parallelism& x) {
    if (x.pp_rank >= x.layers_per_stage.size())
        return {};
    stage_layers result{0, x.layers_per_stage[x.pp_rank]};
    for (std::uint32_t stage = 0; stage < x.pp_rank; ++stage)
        result.first += x.layers_per_stage[stage];
    return result;
}

std::uint32_t dp_size(const parallelism& x) {
    return x.attention_dp ? x.tp_size / ranks_of_group(x) : 1;
}

std::uint32_t dp_rank(const parallelism& x) {
    return x.attention_dp ? x.tp_rank / ranks_of_group(x) : 0;
}

tp_group heads_group(const parallelism& x) {
    return x.attention_dp ? tp_group{ranks_of_group(x), x.tp_rank % ranks_of_group(x)}
                          : tp_group{x.tp_size, x.tp_rank};
}

caf::error check_parallelism(const rank_info& rank) {
    const auto& x = rank.layout;
    struct axis {
        const char* name;
        std::uint32_t size, index;
    };
    for (auto [name, size, index] :
         {axis{"tp", x.tp_size, x.tp_rank}, axis{"pp", x.pp_size, x.pp_rank},
          axis{"cp", x.cp_size, x.cp_rank}})
        if (index >= size)
            return bad_layout(rank, std::string{name} + "_rank " + text(index) + " is not below "
                                        + name + "_size " + text(size));
    if (x.attention_tp_size == 0 || x.tp_size % x.attention_tp_size != 0)
        return bad_layout(rank, "attention_tp_size " + text(x.attention_tp_size)
                                    + " does not divide tp_size " + text(x.tp_size));
    // Two factors of 32 bits fit in 64; the third is compared by division.
    const auto stage_ranks = std::uint64_t{x.tp_size} * x.cp_size;
    if (rank.world_size % stage_ranks != 0 || rank.world_size / stage_ranks != x.pp_size)
        return bad_layout(rank, "world_size " + text(rank.world_size) + " is not tp_size "
                                    + text(x.tp_size) + " * pp_size " + text(x.pp_size)
                                    + " * cp_size " + text(x.cp_size));
    if (instance_rank(x) != rank.rank)
        return bad_layout(rank, "its place in TP, PP and CP makes it rank "
                                    + to_string(instance_rank(x)));
    if (x.layers_per_stage.size() != x.pp_size)
        return bad_layout(rank, "layers_per_stage has " + text(x.layers_per_stage.size())
                                    + " entries for pp_size " + text(x.pp_size));
    std::uint64_t layers = 0;
    for (auto count : x.layers_per_stage)
        layers += count;
    if (layers > std::numeric_limits<std::uint32_t>::max())
        return bad_layout(rank, "layers_per_stage adds up to " + text(layers) + " layers");
    return {};
}

caf::error check_split(const rank_info& writer, const rank_info& receiver) {
    const auto from = writer.layout.cp_size;
    const auto to = receiver.layout.cp_size;
    if (from != 1 && to != 1 && from != to)
        return mismatch("cp_size (one side must be without context parallelism, or both have the"
                        " same)",
                        writer, from, receiver, to);
    return {};
}

bool must_have_all_blocks(const parallelism& writer, const parallelism& receiver) {
    return writer.cp_size == 1 || writer.cp_size == receiver.cp_size;
}

caf::error check_fingerprints(const rank_info& writer, const rank_info& receiver) {
    if (writer.fingerprint.empty() || receiver.fingerprint.empty()
        || writer.fingerprint == receiver.fingerprint)
        return {};
    return mismatch("fingerprint (the hosts serve different models)", writer, writer.fingerprint,
                    receiver, receiver.fingerprint);
}

bool groups_overlap(const parallelism& a, const parallelism& b) {
    const auto a_tp = heads_group(a);
    const auto b_tp = heads_group(b);
    return parts_overlap(a_tp.size, a_tp.rank, b_tp.size, b_tp.rank)
           && parts_overlap(a.cp_size, a.cp_rank, b.cp_size, b.cp_rank);
}

bool stages_overlap(const parallelism& a, const parallelism& b) {
    const auto a_layers = global_layers(a);
    const auto b_layers = global_layers(b);
    return std::max(a_layers.first, b_layers.first)
           < std::min(a_layers.first + a_layers.count, b_layers.first + b_layers.count);
}

std::vector<rank_id> overlapping_writers(const rank_info& receiver,
                                         const std::vector<rank_info>& context,
                                         std::uint32_t context_dp_rank) {
    return overlapping(receiver, context, context_dp_rank);
}

std::vector<rank_id> overlapping_receivers(const rank_info& writer,
                                           const std::vector<rank_info>& generation,
                                           std::uint32_t generation_dp_rank) {
    return overlapping(writer, generation, generation_dp_rank);
}

} // namespace kvferry
