// SPDX-License-Identifier: Apache-2.0
// What a user asks of the demo, and the checks that need no run.
#pragma once

#include "tools/demo/ranks.hpp"
#include "tools/engine/config.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::demo {

/// Which side hears of a request first.
enum class side_order {
    /// Prefill and send(); then receive(). The first token travels with the orchestrator.
    context_first,
    /// receive() is posted and waits at the sender; the first token travels as aux.
    generation_first,
};

struct demo_options {
    std::vector<std::string> prompts; ///< empty: made by make_prompts()
    std::uint32_t prompt_tokens = 512;
    std::uint32_t new_tokens = 32;
    std::uint32_t requests = 0; ///< 0: one per prompt, or 3 of our own
    std::uint32_t in_flight = 1;
    engine::parallelism context{2, 1};
    engine::parallelism generation{1, 2};
    std::string model = "small";
    std::uint32_t tokens_per_block = 16;
    std::uint32_t generation_tokens_per_block = 0; ///< 0: as on the context side
    std::uint32_t window = 0;                      ///< of attention, in tokens; 0: none
    bool latent = false;                           ///< a cache as of MLA
    std::string route = "auto";
    std::string memory = "host";
    side_order order = side_order::context_first;
    bool flip_a_bit = false;
    std::string crash; ///< a side that dies half-way, for tests of the error path
    std::uint32_t deadline_seconds = 120; ///< of every wait
    std::string trace;                    ///< folder for a recording of both sides
    bool json = false;
};

/// The named size, with the attention that the options ask for.
engine::model_config model_of(const std::string& name, bool latent, std::size_t window);

/// Whether the two sides go together and with the model. Throws std::invalid_argument.
void check(const demo_options& options);

/// One per request. They begin with their number, so that a mix-up between requests changes tokens.
std::vector<std::string> make_prompts(const demo_options& options);

} // namespace kvferry::demo
