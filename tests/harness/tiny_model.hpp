// SPDX-License-Identifier: Apache-2.0
// The model whose cache the simulated ranks hold.
#pragma once

#include <cstdint>

namespace kvferry::harness {

/// Numbers of the simulated model: few and small, so that thousands of runs fit into a second.
struct tiny_model {
    std::uint32_t layers = 2;
    std::uint32_t heads = 2;
    std::uint32_t head_dim = 4;
    std::uint32_t element_bytes = 2;
    std::uint32_t tokens_per_block = 4;
    /// Each layer has something beside its heads that all ranks hold alike, as long as one plane.
    bool latent = false;

    std::uint64_t plane_bytes() const {
        return std::uint64_t{tokens_per_block} * head_dim * element_bytes;
    }
};

} // namespace kvferry::harness
