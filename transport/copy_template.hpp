// SPDX-License-Identifier: Apache-2.0
// The strided runs inside one pair of slots.
#pragma once

#include "messages/copy_plan.hpp"
#include "messages/errors.hpp"
#include "messages/page_table.hpp"
#include "transport/layout_match.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// Collects stretches of bytes and folds them into runs: stretches that touch on both sides become
/// one, equal stretches at equal distances become one run.
class template_builder {
public:
    /// Offsets from the start of the two slots.
    void add(std::uint64_t source_offset_bytes, std::uint64_t target_offset_bytes,
             std::uint64_t bytes);

    /// The stretches of one pair of views; the shards must meet.
    ///   intact       same shards: each buffer as it is
    ///   hnd          heads are outermost: one stretch per buffer
    ///   nhd          tokens are outermost: one stretch per token of a buffer
    ///   sectioned    each section split on its own: one stretch per section
    void add(const view_pair&, const pool_view& source, const pool_view& target,
             std::uint32_t tokens_per_slot);

    /// plan_invalid when two stretches have a target byte in common.
    caf::expected<copy_template> finish() const;

private:
    struct stretch {
        std::uint64_t source_offset_bytes = 0;
        std::uint64_t target_offset_bytes = 0;
        std::uint64_t bytes = 0;
    };

    std::vector<stretch> stretches_;
};

} // namespace kvferry
