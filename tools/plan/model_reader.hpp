// SPDX-License-Identifier: Apache-2.0
// What configurations of models have in common: numbers by name, kinds of layers, kinds of caches.
#pragma once

#include "tools/plan/json_fields.hpp"
#include "tools/plan/model_cache.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::tools {

/// What a layer remembers of a request.
enum class layer_kind { full, window, state, none };

/// Reads one configuration. Keeps the first error, like json_fields.
class model_reader {
public:
    /// Reads what every family has: the number of layers and the element type.
    model_reader(const nlohmann::json& config, std::string where);

    json_fields& fields() { return fields_; }
    std::uint32_t layers() const { return layers_; }

    std::uint32_t number(const char* key, std::optional<std::uint32_t> fallback = {});
    /// The first of two fields that is there.
    std::uint32_t first_number(const char* key, const char* other,
                               std::optional<std::uint32_t> fallback = {});
    std::uint32_t head_dim();
    std::uint32_t kv_heads();
    std::uint32_t window_tokens() { return first_number("sliding_window", "sliding_window_size"); }

    // -- Which layer does what; all are full at first ----------------------------------------

    template <class F>
    void set_kinds(F kind_of) {
        for (std::uint32_t layer = 0; layer < layers_; ++layer)
            kinds_[layer] = kind_of(layer);
    }
    /// From a list of names, as newer configurations have it; false: there is none.
    bool read_kinds(const char* key);
    /// Layers period - 1, 2 * period - 1 and so on are full.
    void full_every(std::uint32_t period, layer_kind others);
    /// The last layers use the cache of others (num_kv_shared_layers).
    void leave_out_shared();
    std::vector<std::uint32_t> layers_of(layer_kind) const;

    // -- What they remember -------------------------------------------------------------------

    void add_heads(const std::vector<std::uint32_t>& layers, std::uint32_t heads,
                   std::uint32_t key_dim, std::uint32_t value_dim,
                   std::optional<std::uint32_t> window);
    /// Attention in the layers that are full or have a window.
    void add_attention();
    /// MLA in the full layers, with the indexer of sparse attention where there is one.
    void add_latent();
    /// One role that all ranks hold alike, a row of `dim` elements for each `tokens_per_row`
    /// tokens.
    void add_rows(std::string role, std::vector<std::uint32_t> layers, std::uint32_t dim,
                  std::optional<std::uint32_t> window, std::string type = {},
                  std::uint32_t tokens_per_row = 1);
    /// Rows that stand for `ratio` tokens each, in these layers, with what makes the next row.
    /// Where rows overlap (a ratio of 4) an indexer chooses among them, and has rows of its own.
    void add_compressed(const std::vector<std::uint32_t>& layers, std::uint32_t ratio);
    /// One role of the layers that are states.
    void add_state(std::string role, std::uint32_t heads, std::uint32_t dim, std::uint32_t inner,
                   std::string type);
    /// Mamba 2: x, B and C of the convolution are split by heads and by groups.
    void add_mamba2(std::uint32_t heads, std::uint32_t dim, std::uint32_t groups,
                    std::uint32_t state, std::uint32_t kernel);
    /// Gated delta rule: convolutions of queries, keys and values, and a matrix per value head.
    void add_delta_rule(std::uint32_t key_heads, std::uint32_t key_dim, std::uint32_t value_heads,
                        std::uint32_t value_dim, std::uint32_t kernel);

    const std::string& element_type() const { return element_type_; }
    /// Of recurrent states: f32, unless the configuration says otherwise.
    std::string state_type();

    caf::expected<model_cache> finish(const std::string& family);

private:
    /// Of sparse attention: fp8, a scale for each row.
    void add_indexer(const std::vector<std::uint32_t>& layers, std::uint32_t dim,
                     std::uint32_t tokens_per_row);
    std::string known_type(const char* key, const std::string& spelling);

    json_fields fields_;
    std::uint32_t layers_ = 0;
    std::string element_type_;
    std::vector<layer_kind> kinds_;
    model_cache result_;
};

} // namespace kvferry::tools
