// SPDX-License-Identifier: Apache-2.0
// The named sizes of the demo's model and the checks of a shape.
#include "tools/engine/config.hpp"

#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

namespace kvferry::engine {
namespace {

constexpr std::array<std::string_view, 3> names{"tiny", "small", "medium"};

// KV bytes per token are 2048, 8192 and 49152: from cache-sized prompts to a good load for a link.
constexpr std::array<model_config, 3> shapes{{
    {.layers = 4, .heads = 8, .kv_heads = 4, .head_dim = 16, .hidden = 128, .mlp_hidden = 256},
    {.layers = 8, .heads = 8, .kv_heads = 4, .head_dim = 32, .hidden = 256, .mlp_hidden = 640},
    {.layers = 12, .heads = 16, .kv_heads = 8, .head_dim = 64, .hidden = 512, .mlp_hidden = 1408},
}};

void require_positive(std::string_view field, std::size_t value) {
    if (value == 0)
        throw std::invalid_argument("model: " + std::string(field) + " is 0, must be at least 1");
}

} // namespace

void validate(const model_config& config) {
    require_positive("layers", config.layers);
    require_positive("heads", config.heads);
    require_positive("kv_heads", config.kv_heads);
    require_positive("head_dim", config.head_dim);
    require_positive("hidden", config.hidden);
    require_positive("mlp_hidden", config.mlp_hidden);
    require_positive("vocab", config.vocab);
    if (config.heads % config.kv_heads != 0)
        throw std::invalid_argument("model: heads " + std::to_string(config.heads)
                                    + " is not a multiple of kv_heads "
                                    + std::to_string(config.kv_heads));
    if (config.latent && config.kv_heads != 1)
        throw std::invalid_argument("model: a latent cache has one head, kv_heads is "
                                    + std::to_string(config.kv_heads));
    if (config.head_dim % 2 != 0)
        throw std::invalid_argument("model: head_dim " + std::to_string(config.head_dim)
                                    + " is odd; rotary positions need pairs");
    if (!std::isfinite(config.rope_theta) || config.rope_theta <= 0.0F)
        throw std::invalid_argument("model: rope_theta " + std::to_string(config.rope_theta)
                                    + " is not a positive number");
}

std::span<const std::string_view> preset_names() noexcept {
    return names;
}

model_config preset(std::string_view name) {
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == name)
            return shapes[i];
    }
    std::string known;
    for (auto candidate : names) {
        known += known.empty() ? "" : ", ";
        known += candidate;
    }
    throw std::invalid_argument("model: no size named '" + std::string(name)
                                + "'; known: " + known);
}

} // namespace kvferry::engine
