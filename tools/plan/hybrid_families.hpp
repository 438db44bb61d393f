// SPDX-License-Identifier: Apache-2.0
// Families of models with layers that keep a state for each request instead of tokens.
#pragma once

namespace kvferry::tools {

class model_reader;

/// Gated delta rules beside latents.
void read_kimi_linear(model_reader&);
/// Gated delta rules beside attention.
void read_qwen3_next(model_reader&);
/// A letter for each layer: * attention, M Mamba 2.
void read_nemotron_h(model_reader&);
/// Mamba 1, split by channel.
void read_jamba(model_reader&);
/// Attention and Mamba 2 side by side in every layer.
void read_falcon_h1(model_reader&);
/// Mamba 2 beside attention.
void read_granite_hybrid(model_reader&);
/// Lightning attention: a matrix for each head, in all but some layers.
void read_minimax(model_reader&);

} // namespace kvferry::tools
