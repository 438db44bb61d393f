// SPDX-License-Identifier: Apache-2.0
// What the cache of a model consists of, before it is split over ranks and stored by an engine.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/page_table/kv_tensor.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tools {

/// One role in the layers that are alike.
struct cache_part {
    /// "key+value": both, with the same shape.
    std::string role;
    std::vector<std::uint32_t> layers;
    /// 0: the same on all ranks.
    std::uint32_t heads = 0;
    std::uint32_t dim = 0;
    /// Of states; 1 for what has tokens.
    std::uint32_t inner = 1;
    bool is_state = false;
    std::optional<std::uint32_t> window = {};
    std::string element_type = "bf16";
    /// Of a compressed cache: the tokens that one row stands for.
    std::uint32_t tokens_per_row = 1;
};

struct model_cache {
    /// "qwen3, 64 layers".
    std::string name;
    std::uint32_t layers = 0;
    std::vector<cache_part> parts;
};

/// How an engine stores it.
struct cache_storage {
    std::uint32_t tokens_per_block = 16;
    /// hnd or nhd.
    mapper_kind order = mapper_kind::hnd;
    /// Instead of the model's, for keys and values.
    std::string element_type = {};
};

/// The tensors of one rank: for each part one with all layers of the stage. Parts with the same
/// window are one group, and so are all states.
caf::expected<std::vector<kv_tensor>> tensors_of(const model_cache&, const cache_storage&,
                                                 const parallelism&);

} // namespace kvferry::tools
