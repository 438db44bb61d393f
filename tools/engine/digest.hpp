// SPDX-License-Identifier: Apache-2.0
// A fingerprint of a request's KV, for "both sides hold the same bytes", and a way to break it.
#pragma once

#include "tools/engine/kv_cache.hpp"

#include <cstddef>
#include <cstdint>

namespace kvferry::engine {

/// Over positions 0 .. tokens - 1 in the order layer, K then V, head, token, dim: the same KV gives
/// the same digest whatever the ranks, block size and slots. A replica that differs from the first
/// one changes it. Bitwise: 0.0 and -0.0 differ. Not a defence against forgery.
/// Throws std::invalid_argument when the table holds fewer tokens.
std::uint64_t digest(const kv_cache& cache, const block_table& table, std::size_t tokens);

/// Flips bit 0 .. head_dim * 32 - 1 of a row (bit 31 is the first float's sign on a little-endian
/// machine) on the rank of one replica. Throws std::invalid_argument when there is no such bit.
void corrupt(const kv_cache& cache, const block_table& table, const kv_row& at, std::size_t bit,
             std::size_t replica = 0);

} // namespace kvferry::engine
