// SPDX-License-Identifier: Apache-2.0
// The strided runs inside one pair of slots.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/page_table.hpp"
#include "transport/planner/layout/layout_match.hpp"
#include "transport/planner/layout/shard_overlap.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// The position of a range of tokens in one slot of each side.
struct token_cut {
    /// Tokens of a whole slot; 1 for state.
    std::uint32_t source_tokens = 1;
    std::uint32_t target_tokens = 1;
    /// Where the range begins inside the slots, and how many tokens it has.
    std::uint32_t source_first = 0;
    std::uint32_t target_first = 0;
    std::uint32_t tokens = 1;

    static token_cut whole(std::uint32_t tokens) { return {tokens, tokens, 0, 0, tokens}; }
    bool is_whole() const { return tokens == source_tokens && tokens == target_tokens; }
};

/// Collects stretches of bytes and folds them into runs: stretches that touch on both sides become
/// one, equal stretches at equal distances become one run.
class template_builder {
public:
    /// Offsets from the start of the two slots.
    void add(std::uint64_t source_offset_bytes, std::uint64_t target_offset_bytes,
             std::uint64_t bytes);

    /// The stretches of one pair of views that match_layouts has found to carry.
    ///   intact       same shards, whole blocks: each buffer as it is
    ///   hnd          heads are outermost: one stretch per buffer, per head when blocks are cut
    ///   nhd          tokens are outermost: one stretch per token of a buffer
    ///   hnd <-> nhd  one stretch per token and head
    ///   replicated   one stretch per buffer
    ///   sectioned    each section split on its own: one stretch per section
    ///   with gaps, or dealt out over CP ranks: one stretch per row and head
    void add(const view_pair&, const pool_view& source, const pool_view& target, const token_cut&);

    /// plan_invalid when two stretches have a target byte in common.
    caf::expected<copy_template> finish() const;

private:
    struct stretch {
        std::uint64_t source_offset_bytes = 0;
        std::uint64_t target_offset_bytes = 0;
        std::uint64_t bytes = 0;
    };

    void add_sections(const entry_pair&, const shard_overlap&, const role_layout& source,
                      const role_layout& target);
    void add_tokens(const entry_pair&, const shard_overlap&, const role_layout& source,
                    const role_layout& target, const token_cut&);

    void add_rows(const entry_pair&, const shard_overlap&, const role_layout& source,
                  const role_layout& target, const token_cut&);
    std::vector<stretch> merged_by_target() const;

    std::vector<stretch> stretches_;
    /// Views with gaps fill each other's, so that their stretches may touch.
    bool has_gaps_ = false;
};

} // namespace kvferry
