// SPDX-License-Identifier: Apache-2.0
// How long planning takes. Starts no process and moves no byte.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::bench {

/// One pair of ranks and one request.
struct planning_case {
    std::string name;
    std::uint32_t layers = 0;
    std::uint32_t blocks = 0;
    /// nhd instead of hnd.
    bool token_major = false;
    std::uint32_t context_tokens_per_block = 32;
    std::uint32_t generation_tokens_per_block = 32;
};

/// Every value is the median of the rounds.
struct planning_times {
    planning_case shape;
    /// Number of stretches after merging.
    std::uint64_t fragments = 0;
    std::uint64_t bytes = 0;
    /// Runs in all templates. They describe the fragments in short.
    std::uint64_t runs = 0;
    /// Time to work out the templates of a new pair of layouts.
    double first_us = 0;
    /// Time to make a plan from cached templates.
    double cached_us = 0;
    /// Time of the check that every plan must pass.
    double check_us = 0;
};

struct planning_result {
    std::vector<planning_times> cases;
    /// Bytes of one message that asks for 1000 blocks of 80 layers.
    std::uint64_t request_bytes = 0;
};

/// Fails when a case cannot be planned.
caf::expected<planning_result> measure_planning(std::uint32_t rounds);

std::string text_of(const planning_result&);
std::string json_of(const planning_result&);

} // namespace kvferry::bench
