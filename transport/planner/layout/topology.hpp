// SPDX-License-Identifier: Apache-2.0
// Rank arithmetic: where a rank stands in its instance, and which ranks of two instances hold parts
// of the same cache.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// CP-minor: pp_rank * tp_size * cp_size + tp_rank * cp_size + cp_rank.
rank_id instance_rank(const parallelism&);

/// Consecutive global layers.
struct stage_layers {
    std::uint32_t first = 0;
    std::uint32_t count = 0;

    friend bool operator==(const stage_layers&, const stage_layers&) = default;
};

/// Layers of the rank's own pipeline stage; empty when layers_per_stage does not name the stage.
stage_layers global_layers(const parallelism&);

/// Under attention DP every attention_tp_size TP ranks are a DP group, which runs whole requests;
/// otherwise there is one group, 0.
std::uint32_t dp_size(const parallelism&);
std::uint32_t dp_rank(const parallelism&);

/// Number of ranks that share the heads of one request, and the index among them: those of a DP
/// group under attention DP.
struct tp_group {
    std::uint32_t size = 1;
    std::uint32_t rank = 0;

    friend bool operator==(const tp_group&, const tp_group&) = default;
};

tp_group heads_group(const parallelism&);

/// Checks that indexes are below their sizes, sizes above 0, there is one layer count per stage,
/// and rank and world size agree with them. layout_mismatch names the field and both values.
caf::error check_parallelism(const rank_info&);

/// Checks that the splits of two instances can be mapped: one side must be without CP, or both must
/// have as many CP ranks, which divide the tokens alike. layout_mismatch names the field and both
/// values.
caf::error check_split(const rank_info& writer, const rank_info& receiver);

/// Whether the writer must have every block that a receiver lists, of those that the two meet in.
/// One of several CP ranks has some of the blocks of a receiver without CP, and only the rank
/// itself knows which.
bool must_have_all_blocks(const parallelism& writer, const parallelism& receiver);

/// Checks that two ranks serve the same model as far as their hosts say so
/// (rank_info::fingerprint). layout_mismatch has both values.
caf::error check_fingerprints(const rank_info& writer, const rank_info& receiver);

/// Whether two ranks meet in TP and CP: each side cuts an axis into equal parts, and their two
/// parts overlap. Neither size needs to divide the other.
bool groups_overlap(const parallelism&, const parallelism&);

/// Whether the pipeline stages of two ranks share a layer.
bool stages_overlap(const parallelism&, const parallelism&);

/// Context ranks of one DP group that share layers and heads with the receiver, ascending. An
/// estimate for warm links: cohorts_of decides who really writes.
std::vector<rank_id> overlapping_writers(const rank_info& receiver,
                                         const std::vector<rank_info>& context,
                                         std::uint32_t context_dp_rank);

/// The same from the writer's side: it lists a receiver exactly when the receiver lists it.
std::vector<rank_id> overlapping_receivers(const rank_info& writer,
                                           const std::vector<rank_info>& generation,
                                           std::uint32_t generation_dp_rank);

} // namespace kvferry
