// SPDX-License-Identifier: Apache-2.0
// The question for `kvferry plan`: a model, two instances, and perhaps one request.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/allow_missing.hpp"
#include "transport/planner/page_table_builder.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::tools {

/// How one instance is split.
struct instance_split {
    std::uint32_t tp = 1;
    std::uint32_t pp = 1;
    std::uint32_t cp = 1;
    bool attention_dp = false;
    /// One number per stage.
    std::vector<std::uint32_t> layers_per_stage;
    /// Of the model, unless this instance has others (a speculative layer more, say).
    std::uint32_t layers = 0;
    /// Global id of the first of them.
    std::uint32_t first_layer = 0;
};

/// The flags as they were given; empty when not given.
struct plan_flags {
    std::string model;
    std::string context;
    std::string generation;
    std::string context_dp;
    std::string generation_dp;
    std::string prompt;
    std::string reused_prefix;
    std::string allow_missing = {};
};

struct plan_question {
    cache_format model;
    instance_split context;
    instance_split generation;
    std::uint32_t context_dp = 0;
    std::uint32_t generation_dp = 0;
    std::optional<std::uint32_t> prompt_tokens;
    /// The generation side already has this many tokens of the prompt, in whole blocks.
    std::uint32_t reused_prefix_tokens = 0;
    /// What the session of a generation rank would accept.
    allow_missing allowed = {};
};

/// Limit for the ranks of one instance, because every pair of ranks is examined.
inline constexpr std::uint32_t plan_ranks_max = 1024;

/// invalid_argument names the flag and what is wrong with it.
caf::expected<plan_question> parse_plan_flags(const plan_flags&);

} // namespace kvferry::tools
