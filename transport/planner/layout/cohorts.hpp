// SPDX-License-Identifier: Apache-2.0
// Which ranks send to which: pure functions, so that both sides compute the same answer.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/allow_missing.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

/// Whether the writer has bytes for the receiver: they meet in TP and CP, share a role and a layer,
/// and the writer is elected among the replicas of its shard. False for a rank that would send
/// nothing, and also when the two cannot be mapped; cohorts_of and make_plan say why.
bool should_send_kv(const rank_info& writer, const rank_info& receiver);

/// Whether the writer sends the receiver's aux record: among the ranks of its DP group that meet
/// the receiver in TP and CP, it is the first one on the lowest stage that has a layer of the
/// receiver's stage. True for exactly one rank per DP group, which need not be in the KV cohort.
bool should_send_aux(const rank_info& writer, const rank_info& receiver);

/// The ranks that a receiver must hear from, ascending.
struct cohorts {
    std::vector<rank_id> kv;
    /// Exactly one rank.
    std::vector<rank_id> aux;
    /// With consent only: global layers of the receiver that no context rank has (for example
    /// speculative layers on one side only), and roles that none has in a layer that both sides
    /// have; ascending. They are not written.
    std::vector<std::uint32_t> layers_skipped = {};
    std::vector<std::string> roles_skipped = {};

    friend bool operator==(const cohorts&, const cohorts&) = default;
};

/// `context_ranks` are all ranks of the context instance. Also proves that both cohorts are
/// complete: each byte of the receiver comes from exactly one writer, but for what `allowed` lets
/// be missing. layout_mismatch, missing_layout: the instances cannot be mapped; invalid_argument:
/// the instance has no such DP rank.
caf::expected<cohorts> cohorts_of(const rank_info& receiver,
                                  const std::vector<rank_info>& context_ranks,
                                  std::uint32_t context_dp_rank, allow_missing allowed = {});

/// The same for the DP groups `first` to `last`, in this order. Costs one look at the instance,
/// however many groups it has.
caf::expected<std::vector<cohorts>> cohorts_of_groups(const rank_info& receiver,
                                                      const std::vector<rank_info>& context_ranks,
                                                      std::uint32_t first, std::uint32_t last,
                                                      allow_missing allowed = {});

/// The reverse: the generation ranks of one DP group that have `writer` in a cohort, ascending.
/// Without aux, only those that have it in their KV cohort.
std::vector<rank_id> receivers_of(const rank_info& writer,
                                  const std::vector<rank_info>& generation_ranks,
                                  std::uint32_t generation_dp_rank, bool with_aux);

} // namespace kvferry
