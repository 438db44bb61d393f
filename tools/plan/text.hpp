// SPDX-License-Identifier: Apache-2.0
// The answer of `kvferry plan` for people and for machines.
#pragma once

#include "tools/plan/routes.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tools {

/// "0-3", "0-1 4", "2": ascending numbers in short.
std::string ranges_text(const std::vector<std::uint32_t>&);

/// Table and picture. With reasons: a line for every pair of ranks.
std::string report_of(const plan_question&, const planned_routes&, bool with_reasons);

/// One JSON object; its fields are in tools/plan/README.md.
std::string json_of(const plan_question&, const planned_routes&, bool with_reasons);

/// {"error":{"code":...,"message":...}}
std::string json_of(const caf::error&);

} // namespace kvferry::tools
