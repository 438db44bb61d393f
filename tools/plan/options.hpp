// SPDX-License-Identifier: Apache-2.0
// The question for `kvferry plan`: two instances, and perhaps one request.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/allow_missing.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tools {

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
    std::string page_table = {};
    std::string against = {};
};

struct plan_question {
    /// What is planned, for people: one line or more.
    std::string about;
    /// All ranks of both instances, in rank order.
    std::vector<rank_info> context;
    std::vector<rank_info> generation;
    std::uint32_t context_dp = 0;
    std::uint32_t generation_dp = 0;
    std::optional<std::uint32_t> prompt_tokens = {};
    /// The generation side already has this many tokens of the prompt, in whole blocks.
    std::uint32_t reused_prefix_tokens = 0;
    /// What the session of a generation rank would accept.
    allow_missing allowed = {};
};

/// invalid_argument names the flag and what is wrong with it.
caf::expected<plan_question> parse_plan_flags(const plan_flags&);

} // namespace kvferry::tools
