// SPDX-License-Identifier: Apache-2.0
// Where the rows of one buffer lie: a row is what one head has of one token, or of the few tokens
// that a row stands for.
#pragma once

#include "messages/values/page_table.hpp"

#include <cstdint>

namespace kvferry {

struct row_shape {
    std::uint64_t rows = 1;
    std::uint64_t heads = 1;
    std::uint64_t row_bytes = 0;
    /// Distance of two rows of one head, and of two heads of one row.
    std::uint64_t row_step = 0;
    std::uint64_t head_step = 0;

    /// From the first byte to the end of the last.
    std::uint64_t extent() const {
        return (rows - 1) * row_step + (heads - 1) * head_step + row_bytes;
    }
};

/// Whether something lies between the rows of a buffer.
bool has_gaps(const role_layout&);

/// Of a buffer with `bytes` bytes of its own in slots of `tokens` tokens (1: a state), which must
/// be a whole number of rows. Without shard_unit_bytes all heads are one.
row_shape rows_of(const role_layout&, std::uint32_t tokens, std::uint64_t bytes);

/// Bytes that a buffer reaches over.
std::uint64_t extent_of(const role_layout&, std::uint32_t tokens, std::uint64_t bytes);

/// How the rows of two buffers of one tensor go together.
enum class row_match {
    /// Row by row.
    alike,
    /// CP ranks deal out the tokens of one side; the other has them all.
    source_dealt,
    target_dealt,
    /// Both are dealt out, and have no token in common.
    apart,
    never,
};

row_match match_rows(const role_layout& source, const role_layout& target);

} // namespace kvferry
