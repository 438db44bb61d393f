// SPDX-License-Identifier: Apache-2.0
// A Llama-style decoder on the CPU in 32-bit floats, with weights drawn from a seed.
#pragma once

#include "tools/engine/config.hpp"
#include "tools/engine/kv_cache.hpp"
#include "tools/engine/math.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace kvferry::engine {

/// Embedding, `layers` of {RMSNorm, grouped-query attention with rotary positions, RMSNorm,
/// SwiGLU}, RMSNorm, output projection; no biases. Immutable, so threads and engines may share it.
class model {
public:
    /// Throws std::invalid_argument, see validate().
    explicit model(const model_config& config);

    /// Computes tokens at positions start, start + 1, ... over the K and V of positions 0 ..
    /// start - 1 in `cache`; writes theirs to every replica. Returns the logits (vocab floats) of
    /// the last one. `tokens` is not empty and below vocab; `table` has room.
    std::vector<float> forward(std::span<const token> tokens, std::size_t start,
                               const kv_cache& cache, const block_table& table) const;

    const model_config& config() const noexcept { return config_; }

private:
    struct layer {
        std::vector<float> attention_norm;
        matrix query, key, value, output;
        std::vector<float> mlp_norm;
        matrix gate, up, down;
    };
    struct step; // the buffers of one pass

    void attention(const layer& weights, std::size_t index, step& now, const kv_cache& cache,
                   const block_table& table) const;
    void mlp(const layer& weights, step& now) const;

    model_config config_;
    rotary rotary_;
    std::vector<float> embedding_; // [vocab][hidden]
    std::vector<layer> layers_;
    std::vector<float> final_norm_;
    matrix head_;
};

} // namespace kvferry::engine
