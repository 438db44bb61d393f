// SPDX-License-Identifier: Apache-2.0
// An instance described in a JSON file: how it is split, and the tensors of its ranks.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace kvferry::tools {

/// All ranks of the instance; the form of the JSON is in tools/plan/README.md. `file` begins every
/// error; without a name of its own the instance is called `name`.
caf::expected<std::vector<rank_info>>
ranks_of_description(const nlohmann::json&, const std::string& file, const std::string& name);

} // namespace kvferry::tools
