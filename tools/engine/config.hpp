// SPDX-License-Identifier: Apache-2.0
// The shape of the demo's model: its numbers, the named sizes and what makes a shape legal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace kvferry::engine {

/// A token is a byte of text in the named sizes (vocab 256); there is no begin-of-text token.
using token = std::uint32_t;

struct model_config {
    std::size_t layers = 0;
    std::size_t heads = 0;    ///< query heads
    std::size_t kv_heads = 0; ///< divides `heads`
    std::size_t head_dim = 0; ///< even: rotary positions turn pairs
    std::size_t hidden = 0;   ///< width of the residual stream; need not be heads * head_dim
    std::size_t mlp_hidden = 0;
    std::size_t vocab = 256;
    std::uint64_t seed = 1; ///< of the weights
    float rope_theta = 10000.0F;
    std::size_t window = 0; ///< tokens that attention reaches, the newest included; 0: all
    /// One row per token is K and V of all query heads, as in MLA; kv_heads is 1.
    bool latent = false;

    bool operator==(const model_config&) const = default;
};

/// Throws std::invalid_argument that names the field and its value.
void validate(const model_config& config);

/// "tiny", "small", "medium".
std::span<const std::string_view> preset_names() noexcept;

/// Throws std::invalid_argument that lists the known names.
model_config preset(std::string_view name);

} // namespace kvferry::engine
