// SPDX-License-Identifier: Apache-2.0
// How long planning takes: no process, no byte moved.
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

/// Medians over the rounds.
struct planning_times {
    planning_case shape;
    /// After merging.
    std::uint64_t fragments = 0;
    std::uint64_t bytes = 0;
    /// Runs of all templates, which stand for the fragments.
    std::uint64_t runs = 0;
    /// Templates of a pair of layouts that has never been seen.
    double first_us = 0;
    /// A plan out of templates that are there.
    double cached_us = 0;
    /// The check that every plan passes.
    double check_us = 0;
};

struct planning_result {
    std::vector<planning_times> cases;
    /// One message that asks for 1000 blocks of 80 layers.
    std::uint64_t request_bytes = 0;
};

/// Fails when a case cannot be planned.
caf::expected<planning_result> measure_planning(std::uint32_t rounds);

std::string text_of(const planning_result&);
std::string json_of(const planning_result&);

} // namespace kvferry::bench
