// SPDX-License-Identifier: Apache-2.0
// The ranks of an instance, from a cache format or from tensors.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/page_table/kv_tensor.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace kvferry::tools {

/// Limit for the ranks of one instance, because every pair of ranks is examined.
inline constexpr std::uint32_t plan_ranks_max = 1024;

/// How one instance is split.
struct instance_split {
    std::uint32_t tp = 1;
    std::uint32_t pp = 1;
    std::uint32_t cp = 1;
    /// TP ranks of a DP group; 0: no attention DP.
    std::uint32_t attention_dp = 0;
    /// One number per stage.
    std::vector<std::uint32_t> layers_per_stage = {};
    /// Of the model, unless this instance has others (a speculative layer more, say).
    std::uint32_t layers = 0;
    /// Global id of the first of them.
    std::uint32_t first_layer = 0;
};

/// The number of ranks, if it is from 1 to plan_ranks_max; `option` begins the error.
caf::expected<std::uint32_t> ranks_in(const instance_split&, const std::string& option);

/// `layers` over `pp` stages, the first ones take what is left over.
std::vector<std::uint32_t> even_stages(std::uint32_t layers, std::uint32_t pp);

/// All ranks of an instance of the default cache format.
caf::expected<std::vector<rank_info>> ranks_of(const std::string& name, const instance_split&,
                                               const cache_format&);

/// Tensors of one rank: their layers are those of its stage already. Groups may have gaps; tensors
/// with address 0 are laid out behind the others.
using tensors_of_rank = std::function<caf::expected<std::vector<kv_tensor>>(const parallelism&)>;

/// All ranks of an instance whose caches are tensors.
caf::expected<std::vector<rank_info>> ranks_of(const std::string& name, const instance_split&,
                                               const tensors_of_rank&);

} // namespace kvferry::tools
