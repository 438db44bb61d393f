// SPDX-License-Identifier: Apache-2.0
// How a side is split, as users write it: "tp=2,pp=1", or "tp=2,pp=1,adp=1" with attention DP.
#pragma once

#include "tools/engine/kv_layout.hpp"

#include <string>
#include <string_view>

namespace kvferry::demo {

/// Most ranks of one side: every rank runs its own threads on this machine.
inline constexpr std::size_t ranks_max = 16;

/// Keys tp, pp and adp, each at most once, in any order; without them 1, 1 and 0. Throws
/// std::invalid_argument that shows the text and the grammar.
engine::parallelism parse_ranks(std::string_view text);

std::string to_string(const engine::parallelism& ranks);

} // namespace kvferry::demo
