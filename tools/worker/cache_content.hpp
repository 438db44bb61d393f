// SPDX-License-Identifier: Apache-2.0
// Cache memory with known content. Every row of bytes follows from its place in the global cache
// (layer, key or value, head, token of the request), so that any split can be verified.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "messages/values/page_table.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvferry::tools {

/// One rank's cache of the default format (transport/planner/page_table/page_table_builder.hpp). A
/// view: it does not own the memory. Slots must exist; no_slot is skipped.
class cache_content {
public:
    /// `slot0` is the start of the table's only pool.
    cache_content(const page_table&, std::byte* slot0);

    struct verdict {
        std::uint64_t bytes = 0;
        std::uint64_t rows = 0;
        std::uint64_t rows_wrong = 0;
        /// Describes the first wrong row; empty when all are right.
        std::string first_difference;
    };

    /// Writes the rows of all tokens below `prompt_tokens`; the rest of a slot stays as it is.
    /// Returns the bytes written.
    std::uint64_t fill(const block_list&, std::uint32_t prompt_tokens, std::uint64_t seed) const;

    /// Compares the same rows.
    verdict check(const block_list&, std::uint32_t prompt_tokens, std::uint64_t seed) const;

    /// The block's first token is there in all layers and heads: every writer has begun.
    bool arrived(std::uint32_t slot, std::uint32_t block, std::uint64_t seed) const;

    /// Digest of all bytes of the slots, used or not.
    std::uint64_t digest(const block_list&) const;

    /// True when the pool has all these slots.
    bool has(const block_list&) const;

    std::uint32_t slot_count() const { return slot_count_; }
    std::uint64_t slot_bytes() const { return slot_bytes_; }

private:
    struct row {
        std::uint32_t layer = 0;
        std::uint32_t buffer = 0;
        std::uint32_t head = 0;
        std::uint32_t token = 0;
    };

    template <class F>
    void for_each_row(std::uint32_t slot, std::uint32_t block, std::uint32_t prompt_tokens,
                      F&& f) const;
    template <class F>
    void for_each_row(const block_list&, std::uint32_t prompt_tokens, F&& f) const;

    layer_group group_;
    pool_view view_;
    std::byte* slot0_;
    std::uint32_t slot_count_;
    std::uint64_t slot_bytes_;
    std::uint64_t slot_stride_bytes_;
    std::uint32_t tokens_per_block_;
    std::uint32_t heads_;
    std::uint32_t first_head_;
    std::uint64_t row_bytes_;
};

} // namespace kvferry::tools
