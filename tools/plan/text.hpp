// SPDX-License-Identifier: Apache-2.0
// The answer of `kvferry plan` for people and for machines.
#pragma once

#include "tools/plan/groups.hpp"
#include "tools/plan/routes.hpp"

#include <string>

namespace kvferry::tools {

/// "8 x 4096", or "9, to 4096" when not all are as large.
std::string fragments_text(const planned_move&);

/// Table and picture. With reasons: a line for every pair of ranks.
std::string report_of(const plan_question&, const planned_routes&, bool with_reasons);

/// One JSON object; its fields are in tools/plan/README.md.
std::string json_of(const plan_question&, const planned_routes&, bool with_reasons);

/// {"error":{"code":...,"message":...}}
std::string json_of(const caf::error&);

} // namespace kvferry::tools
