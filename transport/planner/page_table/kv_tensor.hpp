// SPDX-License-Identifier: Apache-2.0
// One tensor of an engine's cache, as its framework describes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

/// Dimensions are named one by one, in the order of the shape and separated by blanks:
///   kv      K and V, in this order
///   layer   the layers listed in `layers`
///   block   what a list of slots counts: blocks of tokens, or the states of requests
///   token   tokens of a block; without `block`, of all blocks (see tokens_per_block)
///   head    the heads of this rank
///   dim     elements of a head, of a latent, or the channels of a state; always there
///   inner   elements inside `dim`, of states only: a state's width, the taps of a convolution
/// "kv block token head dim" is vLLM's FlashAttention, "block head token kv dim" K and V packed,
/// "block token dim" an MLA latent, "token head dim" SGLang, "block head dim inner" a Mamba state.
struct kv_tensor {
    /// For errors, "model.layers.3.self_attn".
    std::string name = {};
    /// Of the element whose indexes are all 0.
    std::uint64_t address = 0;
    std::string dims = {};
    std::vector<std::int64_t> shape = {};
    /// In elements; empty: dense, the last dimension innermost.
    std::vector<std::int64_t> strides = {};
    /// In any usual spelling ("torch.bfloat16", "bf16"); compared for equality between ranks.
    std::string element_type = "bf16";
    /// 0: as the type says.
    std::uint32_t element_bytes = 0;
    /// Global layer ids: one, or one for each index of `layer`.
    std::vector<std::uint32_t> layers = {};
    /// "key", "value", "ssm"...; empty with the dimension `kv`, which has both.
    std::string role = {};
    /// Index of the group: its tensors are listed by one list of slots per request. The same tensor
    /// may be in several groups: one for each beam, whose blocks lie in slots of their own.
    std::uint32_t group = 0;
    /// Heads of the whole model, before it is split; 0: all ranks hold the same bytes.
    std::uint32_t heads = 0;
    /// Sliding window; none: full attention.
    std::optional<std::uint32_t> window = {};
    /// Indexes of `token` in one block: for tensors without `block` or without `token`, unless they
    /// are states.
    std::optional<std::uint32_t> tokens_per_block = {};
    /// Sizes along `dim` on this rank of what is split over ranks each by itself (x, B and C of a
    /// convolution state).
    std::vector<std::uint64_t> sections = {};
    /// Tokens that one index of `token` stands for, in a compressed cache.
    std::uint32_t tokens_per_row = 1;
    /// Context parallelism deals out tokens one by one: index i of CP rank r is token i * cp_size +
    /// r.
    bool tokens_are_dealt = false;
};

} // namespace kvferry
