// SPDX-License-Identifier: Apache-2.0
// What the layer groups of an instance hold, in words.
#pragma once

#include "messages/values/rank_info.hpp"

#include <string>
#include <vector>

namespace kvferry::tools {

/// "0-3", "0-1 4", "2": ascending numbers in short.
std::string ranges_text(const std::vector<std::uint32_t>&);

/// "key, value"
std::string roles_text(const std::vector<std::string>&);

/// One line for the layers that are alike: "  layers 0-31: key, value; 8 heads, nhd, bf16; blocks
/// of 16 tokens".
std::string groups_text(const std::vector<rank_info>& ranks);

} // namespace kvferry::tools
