// SPDX-License-Identifier: Apache-2.0
// What a user asks of the demo, and the checks that need no run.
#pragma once

#include "tools/demo/ranks.hpp"
#include "tools/engine/config.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::demo {

/// Which side learns of a request first.
enum class side_order {
    /// Prefill and send(); then receive(). The first token travels with the orchestrator.
    context_first,
    /// receive() is posted and waits at the sender; the first token travels as aux.
    generation_first,
};

struct demo_options {
    std::vector<std::string> prompts; ///< empty: make_prompts() makes them
    std::uint32_t prompt_tokens = 512;
    std::uint32_t new_tokens = 32;
    std::uint32_t requests = 0; ///< 0: one per prompt, or 3 without prompts
    std::uint32_t in_flight = 1;
    engine::parallelism context{2, 1};
    engine::parallelism generation{1, 2};
    std::string model = "small";
    std::uint32_t tokens_per_block = 16;
    std::uint32_t generation_tokens_per_block = 0; ///< 0: the same as on the context side
    std::uint32_t window = 0;                      ///< tokens that attention reaches; 0: all
    bool latent = false;                           ///< one latent row per token, as in MLA
    std::string route = "auto";
    std::string memory = "host";
    side_order order = side_order::context_first;
    bool flip_a_bit = false;
    std::string crash;                    ///< this side dies half-way, to test the error path
    std::uint32_t deadline_seconds = 120; ///< longest wait for anything
    std::string trace;                    ///< folder for a recording of both sides
    bool json = false;
};

/// The named size, with the attention that the options ask for.
engine::model_config model_of(const std::string& name, bool latent, std::size_t window);

/// Checks that the two sides fit each other and the model. Throws std::invalid_argument.
void check(const demo_options& options);

/// Makes one prompt per request. Each begins with its number, so that a mix-up changes tokens.
std::vector<std::string> make_prompts(const demo_options& options);

} // namespace kvferry::demo
