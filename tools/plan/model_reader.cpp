// SPDX-License-Identifier: Apache-2.0
// Reading of models' configurations.
#include "tools/plan/model_reader.hpp"

#include "transport/planner/layout/element_types.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <string_view>

namespace kvferry::tools {

namespace {

constexpr std::uint32_t model_layers_max = 4096;

/// Taps that are remembered: all but the newest.
std::uint32_t taps_of(std::uint32_t kernel) {
    return kernel - std::min(kernel, 1u);
}

} // namespace

model_reader::model_reader(const nlohmann::json& config, std::string where)
    : fields_(config, std::move(where)) {
    // Families whose layers are letters have as many layers as letters.
    const auto letters = fields_.text("hybrid_override_pattern", "").size();
    layers_ = letters == 0 ? number("num_hidden_layers")
                           : number("num_hidden_layers", static_cast<std::uint32_t>(letters));
    if (layers_ == 0 || layers_ > model_layers_max) {
        fields_.fail("num_hidden_layers is " + std::to_string(layers_));
        layers_ = 1;
    }
    kinds_.assign(layers_, layer_kind::full);
    element_type_ =
        known_type("torch_dtype", fields_.text("dtype", fields_.text("torch_dtype", "bfloat16")));
}

std::string model_reader::known_type(const char* key, const std::string& spelling) {
    const auto type = find_element_type(spelling);
    if (!type)
        fields_.fail(std::string{key} + " '" + spelling + "' is not known");
    return type ? std::string{type->name} : std::string{};
}

std::string model_reader::state_type() {
    return known_type("mamba_ssm_dtype", fields_.text("mamba_ssm_dtype", "float32"));
}

std::uint32_t model_reader::number(const char* key, std::optional<std::uint32_t> fallback) {
    const auto value = fields_.number(key, fallback);
    if (value > std::numeric_limits<std::int32_t>::max())
        fields_.fail(std::string{key} + " is " + std::to_string(value));
    return static_cast<std::uint32_t>(value);
}

std::uint32_t model_reader::first_number(const char* key, const char* other,
                                         std::optional<std::uint32_t> fallback) {
    return fields_.has(key) ? number(key) : number(other, fallback);
}

std::uint32_t model_reader::head_dim() {
    if (fields_.has("head_dim") || fields_.has("attention_head_dim"))
        return first_number("head_dim", "attention_head_dim");
    const auto heads = number("num_attention_heads");
    if (heads == 0) {
        fields_.fail("num_attention_heads is 0");
        return 0;
    }
    return number("hidden_size") / heads;
}

std::uint32_t model_reader::kv_heads() {
    return first_number("num_key_value_heads", "num_attention_heads");
}

bool model_reader::read_kinds(const char* key) {
    static const std::map<std::string_view, layer_kind> known = {
        {"full_attention", layer_kind::full},
        {"attention", layer_kind::full},
        {"chunked_attention", layer_kind::full}, // its blocks are listed like any others
        {"sliding_attention", layer_kind::window},
        {"linear_attention", layer_kind::state},
        {"mamba", layer_kind::state},
        {"mamba2", layer_kind::state},
        {"moe", layer_kind::none},
        {"mlp", layer_kind::none}};
    if (!fields_.has(key))
        return false;
    const auto names = fields_.texts(key);
    if (names.size() < layers_) {
        fields_.fail(std::string{key} + " names " + std::to_string(names.size())
                     + " layers, num_hidden_layers is " + std::to_string(layers_));
        return true;
    }
    set_kinds([&](std::uint32_t layer) {
        const auto found = known.find(names[layer]);
        if (found == known.end())
            fields_.fail(std::string{key} + " has '" + names[layer] + "', which is not known");
        return found == known.end() ? layer_kind::none : found->second;
    });
    return true;
}

void model_reader::full_every(std::uint32_t period, layer_kind others) {
    if (period == 0)
        return fields_.fail("a pattern of 0 layers");
    set_kinds(
        [=](std::uint32_t layer) { return (layer + 1) % period == 0 ? layer_kind::full : others; });
}

void model_reader::leave_out_shared() {
    const auto shared = std::min(number("num_kv_shared_layers", 0), layers_);
    std::fill(kinds_.end() - shared, kinds_.end(), layer_kind::none);
}

std::vector<std::uint32_t> model_reader::layers_of(layer_kind kind) const {
    std::vector<std::uint32_t> result;
    for (std::uint32_t layer = 0; layer < layers_; ++layer)
        if (kinds_[layer] == kind)
            result.push_back(layer);
    return result;
}

void model_reader::add_heads(const std::vector<std::uint32_t>& layers, std::uint32_t heads,
                             std::uint32_t key_dim, std::uint32_t value_dim,
                             std::optional<std::uint32_t> window) {
    if (heads == 0)
        fields_.fail("num_key_value_heads is 0");
    cache_part x{"key+value", layers, heads, key_dim, 1, false, window, element_type_};
    if (key_dim != value_dim) {
        x.role = "key";
        result_.parts.push_back(x);
        x.role = "value";
        x.dim = value_dim;
    }
    result_.parts.push_back(std::move(x));
}

void model_reader::add_attention() {
    const auto heads = kv_heads();
    const auto dim = head_dim();
    add_heads(layers_of(layer_kind::full), heads, dim, dim, {});
    if (const auto layers = layers_of(layer_kind::window); !layers.empty())
        add_heads(layers, heads, dim, dim, window_tokens());
}

void model_reader::add_rows(std::string role, std::vector<std::uint32_t> layers, std::uint32_t dim,
                            std::optional<std::uint32_t> window, std::string type,
                            std::uint32_t tokens_per_row) {
    result_.parts.push_back({std::move(role), std::move(layers), 0, dim, 1, false, window,
                             type.empty() ? element_type_ : std::move(type), tokens_per_row});
}

void model_reader::add_indexer(const std::vector<std::uint32_t>& layers, std::uint32_t dim,
                               std::uint32_t tokens_per_row) {
    add_rows("indexer", layers, dim, {}, "fp8_e4m3", tokens_per_row);
    add_rows("indexer_scale", layers, 1, {}, "f32", tokens_per_row);
}

void model_reader::add_latent() {
    const auto layers = layers_of(layer_kind::full);
    add_rows("key", layers, number("kv_lora_rank") + number("qk_rope_head_dim"), {});
    if (const auto dim = number("index_head_dim", 0); dim != 0)
        add_indexer(layers, dim, 1);
}

void model_reader::add_compressed(const std::vector<std::uint32_t>& layers, std::uint32_t ratio) {
    const bool overlap = ratio == 4;
    const auto parts = overlap ? 2u : 1u; // a row is made of this many times `ratio` tokens
    const auto add = [&](const std::string& role, std::uint32_t dim) {
        // A value and a weight for each element and part.
        add_rows(role, layers, 2 * parts * dim, parts * ratio, "f32");
    };
    add_rows("compressed", layers, head_dim(), {}, {}, ratio);
    add("compressor", head_dim());
    if (overlap) {
        const auto dim = number("index_head_dim");
        add_indexer(layers, dim, ratio);
        add("indexer_compressor", dim);
    }
}

void model_reader::add_state(std::string role, std::uint32_t heads, std::uint32_t dim,
                             std::uint32_t inner, std::string type) {
    if (heads == 0)
        fields_.fail(role + " would have 0 heads");
    result_.parts.push_back({std::move(role),
                             layers_of(layer_kind::state),
                             heads,
                             dim,
                             inner,
                             true,
                             {},
                             std::move(type)});
}

void model_reader::add_mamba2(std::uint32_t heads, std::uint32_t dim, std::uint32_t groups,
                              std::uint32_t state, std::uint32_t kernel) {
    add_state("conv_x", heads, dim, taps_of(kernel), element_type_);
    add_state("conv_b", groups, state, taps_of(kernel), element_type_);
    add_state("conv_c", groups, state, taps_of(kernel), element_type_);
    add_state("ssm", heads, dim, state, state_type());
}

void model_reader::add_delta_rule(std::uint32_t key_heads, std::uint32_t key_dim,
                                  std::uint32_t value_heads, std::uint32_t value_dim,
                                  std::uint32_t kernel) {
    add_state("conv_q", key_heads, key_dim, taps_of(kernel), element_type_);
    add_state("conv_k", key_heads, key_dim, taps_of(kernel), element_type_);
    add_state("conv_v", value_heads, value_dim, taps_of(kernel), element_type_);
    add_state("delta", value_heads, key_dim, value_dim, state_type());
}

caf::expected<model_cache> model_reader::finish(const std::string& family) {
    std::erase_if(result_.parts, [](const auto& x) { return x.layers.empty(); });
    if (result_.parts.empty())
        fields_.fail("no layer has a cache");
    for (const auto& x : result_.parts)
        if (x.dim == 0 || x.inner == 0)
            fields_.fail(x.role + " has the dimensions " + std::to_string(x.dim) + " and "
                         + std::to_string(x.inner));
    if (fields_.error())
        return fields_.error();
    result_.layers = layers_;
    result_.name = family + ", " + std::to_string(layers_) + " layers";
    return std::move(result_);
}

} // namespace kvferry::tools
