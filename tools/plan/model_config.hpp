// SPDX-License-Identifier: Apache-2.0
// A model's published configuration (Hugging Face's config.json) as what its cache consists of.
#pragma once

#include "messages/errors.hpp"
#include "tools/plan/model_cache.hpp"

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace kvferry::tools {

/// `file` begins every error. A family that is not known is refused by name, with what to give by
/// hand instead.
caf::expected<model_cache> read_model_config(const nlohmann::json&, const std::string& file);

} // namespace kvferry::tools
