// SPDX-License-Identifier: Apache-2.0
// Rows, their distances, and how two sides' rows go together.
#include "transport/planner/layout/row_shape.hpp"

namespace kvferry {

bool has_gaps(const role_layout& x) {
    return x.row_stride_bytes != 0 || x.head_stride_bytes != 0;
}

row_shape rows_of(const role_layout& x, std::uint32_t tokens, std::uint64_t bytes) {
    row_shape result;
    result.rows = tokens / x.tokens_per_row;
    const auto unit = x.shard_unit_bytes.value_or(bytes);
    result.heads = bytes % unit == 0 ? bytes / unit : 1;
    result.row_bytes = bytes / result.rows / result.heads;
    const bool by_head = x.kind == mapper_kind::hnd;
    result.row_step = by_head ? result.row_bytes : result.row_bytes * result.heads;
    result.head_step = by_head ? result.row_bytes * result.rows : result.row_bytes;
    if (x.row_stride_bytes != 0)
        result.row_step = x.row_stride_bytes;
    if (x.head_stride_bytes != 0)
        result.head_step = x.head_stride_bytes;
    return result;
}

std::uint64_t extent_of(const role_layout& x, std::uint32_t tokens, std::uint64_t bytes) {
    return has_gaps(x) ? rows_of(x, tokens, bytes).extent() : bytes;
}

row_match match_rows(const role_layout& source, const role_layout& target) {
    if (source.tokens_per_row == target.tokens_per_row) {
        if (source.token_of_row == target.token_of_row)
            return row_match::alike;
        return source.token_of_row && target.token_of_row ? row_match::apart : row_match::never;
    }
    if (source.token_of_row && target.tokens_per_row == 1)
        return row_match::source_dealt;
    if (target.token_of_row && source.tokens_per_row == 1)
        return row_match::target_dealt;
    return row_match::never;
}

} // namespace kvferry
