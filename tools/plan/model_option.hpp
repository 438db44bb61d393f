// SPDX-License-Identifier: Apache-2.0
// `--model`: the shape of the cache, from numbers or from a model's published configuration.
#pragma once

#include "tools/plan/instances.hpp"
#include "tools/plan/model_cache.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::tools {

struct asked_model {
    std::uint32_t layers = 0;
    /// For people.
    std::string about;
    /// Numbers make the default cache format.
    cache_format format;
    /// A configuration makes tensors.
    std::optional<model_cache> config = {};
    cache_storage storage = {};
};

/// "layers=4,heads=4" or "config.json,tokens_per_block=64".
caf::expected<asked_model> read_model_option(std::string_view text);

/// All ranks of an instance that runs the model.
caf::expected<std::vector<rank_info>> ranks_of(const std::string& name, const instance_split&,
                                               const asked_model&);

} // namespace kvferry::tools
