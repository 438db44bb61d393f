// SPDX-License-Identifier: Apache-2.0
// The page table of the default cache format, from the numbers of a model.
//
// One slot holds one block of all layers of the rank's stage: [layer][K, V][head][token][dim] (hnd)
// or [layer][K, V][token][head][dim] (nhd), or for MLA [layer][token][latent].
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace kvferry {

enum class attention_kind : std::uint8_t {
    /// K and V per head; fewer KV heads than TP ranks are duplicated.
    gqa = 0,
    /// One latent per token, the same on every TP rank.
    mla = 1,
};

/// Numbers of the whole model, before it is split.
struct cache_format {
    std::uint32_t layers = 0;
    /// Global id of the first of them.
    std::uint32_t first_layer = 0;
    /// Used for gqa only.
    std::uint32_t kv_heads = 0;
    /// Elements of one head, or of the latent.
    std::uint32_t head_dim = 0;
    std::uint32_t element_bytes = 2;
    std::string element_type = "bf16";
    std::uint32_t tokens_per_block = 32;
    attention_kind kind = attention_kind::gqa;
    /// hnd or nhd; ignored for mla.
    mapper_kind layout = mapper_kind::hnd;
    /// Sliding window of all layers.
    std::optional<std::uint32_t> window_tokens = {};
};

/// Where the rank's only pool lies.
struct pool_place {
    std::uint32_t slot_count = 0;
    std::uint32_t region = 0;
    std::uint64_t region_offset_bytes = 0;
};

/// invalid_argument names the field that is wrong.
caf::expected<page_table> build_page_table(const cache_format&, const parallelism&,
                                           const pool_place&);

/// Bytes from slot 0 to the end of the last slot: what a region must have room for.
std::uint64_t footprint_bytes(const physical_pool&);

} // namespace kvferry
