// SPDX-License-Identifier: Apache-2.0
// The families of models, by what their caches have in common.
#include "tools/plan/model_config.hpp"

#include "messages/values/error_format.hpp"
#include "tools/plan/model_reader.hpp"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <string_view>

namespace kvferry::tools {

namespace {

/// All layers alike, or as layer_types says; a sliding_window without layer_types is for all from
/// max_window_layers on.
void read_plain(model_reader& x) {
    if (!x.read_kinds("layer_types") && x.fields().has("sliding_window")
        && x.fields().flag("use_sliding_window", true)) {
        const auto first = x.number("max_window_layers", 0);
        x.set_kinds([first](std::uint32_t layer) {
            return layer >= first ? layer_kind::window : layer_kind::full;
        });
    }
    x.add_attention();
}

/// No windows: chunked attention lists the blocks of its chunk like any others.
void read_full(model_reader& x) {
    x.add_attention();
}

/// Windows in all but every `period`-th layer.
template <std::uint32_t period>
void read_windows(model_reader& x) {
    if (!x.read_kinds("layer_types"))
        x.full_every(x.first_number("sliding_window_pattern", "_sliding_window_pattern", period),
                     layer_kind::window);
    x.leave_out_shared();
    x.add_attention();
}

/// Layers without window have other heads.
void read_gemma4(model_reader& x) {
    if (!x.read_kinds("layer_types"))
        x.full_every(x.number("sliding_window_pattern", 6), layer_kind::window);
    x.leave_out_shared();
    const auto dim = x.head_dim();
    const auto full_dim = x.number("global_head_dim", dim);
    x.add_heads(x.layers_of(layer_kind::full), x.number("num_global_key_value_heads", x.kv_heads()),
                full_dim, full_dim, {});
    x.add_heads(x.layers_of(layer_kind::window), x.kv_heads(), dim, dim, x.window_tokens());
}

/// K and V have other dimensions, and layers with window other heads.
void read_mimo(model_reader& x) {
    const auto pattern = x.fields().numbers("hybrid_layer_pattern");
    if (pattern.size() != x.layers())
        return x.fields().fail("hybrid_layer_pattern names " + std::to_string(pattern.size())
                               + " layers, num_hidden_layers is " + std::to_string(x.layers()));
    x.set_kinds([&pattern](std::uint32_t layer) {
        return pattern[layer] == 0 ? layer_kind::full : layer_kind::window;
    });
    const auto dim = x.head_dim();
    x.add_heads(x.layers_of(layer_kind::full), x.kv_heads(), dim, x.number("v_head_dim", dim), {});
    const auto window_dim = x.number("swa_head_dim", dim);
    x.add_heads(x.layers_of(layer_kind::window), x.number("swa_num_key_value_heads"), window_dim,
                x.number("swa_v_head_dim", window_dim), x.window_tokens());
}

void read_mla(model_reader& x) {
    x.add_latent();
}

void read_kimi_linear(model_reader& x) {
    const auto* part = x.fields().part("linear_attn_config");
    if (!part)
        return x.fields().fail("linear_attn_config is missing");
    json_fields linear{*part, "linear_attn_config"};
    const auto full = linear.numbers("full_attn_layers"); // counted from 1
    const auto number = [&linear](const char* key) {
        return linear.optional_number(key).value_or(0);
    };
    const auto heads = number("num_heads");
    const auto dim = number("head_dim");
    const auto kernel = number("short_conv_kernel_size");
    if (linear.error())
        return x.fields().fail(text_of(linear.error()));
    x.set_kinds([&full](std::uint32_t layer) {
        return std::count(full.begin(), full.end(), std::int64_t{layer} + 1) != 0
                   ? layer_kind::full
                   : layer_kind::state;
    });
    x.add_latent();
    x.add_delta_rule(heads, dim, heads, dim, kernel);
}

void read_qwen3_next(model_reader& x) {
    if (!x.read_kinds("layer_types"))
        x.full_every(x.number("full_attention_interval", 4), layer_kind::state);
    x.add_attention();
    x.add_delta_rule(x.number("linear_num_key_heads"), x.number("linear_key_head_dim"),
                     x.number("linear_num_value_heads"), x.number("linear_value_head_dim"),
                     x.number("linear_conv_kernel_dim"));
}

/// A letter for each layer: * attention, M Mamba.
void read_nemotron_h(model_reader& x) {
    const auto pattern = x.fields().text("hybrid_override_pattern", "");
    if (pattern.empty() && !x.read_kinds("layers_block_type"))
        return x.fields().fail("hybrid_override_pattern is missing");
    if (!pattern.empty() && pattern.size() != x.layers())
        return x.fields().fail("hybrid_override_pattern names " + std::to_string(pattern.size())
                               + " layers, num_hidden_layers is " + std::to_string(x.layers()));
    if (!pattern.empty())
        x.set_kinds([&pattern](std::uint32_t layer) {
            return pattern[layer] == '*'   ? layer_kind::full
                   : pattern[layer] == 'M' ? layer_kind::state
                                           : layer_kind::none;
        });
    x.add_attention();
    x.add_mamba2(x.number("mamba_num_heads"), x.number("mamba_head_dim"), x.number("n_groups"),
                 x.number("ssm_state_size"), x.number("conv_kernel"));
}

/// Mamba 1, split by channel.
void read_jamba(model_reader& x) {
    const auto period = x.number("attn_layer_period");
    const auto offset = x.number("attn_layer_offset");
    const auto channels = std::uint64_t{x.number("mamba_expand")} * x.number("hidden_size");
    if (period == 0 || channels > 1u << 30)
        return x.fields().fail("attn_layer_period is " + std::to_string(period) + ", there are "
                               + std::to_string(channels) + " channels");
    x.set_kinds([=](std::uint32_t layer) {
        return layer % period == offset ? layer_kind::full : layer_kind::state;
    });
    x.add_attention();
    const auto heads = static_cast<std::uint32_t>(channels);
    x.add_state("conv", heads, 1, std::max(x.number("mamba_d_conv"), 1u) - 1, x.element_type());
    x.add_state("ssm", heads, 1, x.number("mamba_d_state"), x.state_type());
}

void add_mamba2_by_d(model_reader& x) {
    const auto heads = x.number("mamba_n_heads");
    if (heads == 0)
        return x.fields().fail("mamba_n_heads is 0");
    x.add_mamba2(heads, x.number("mamba_d_head", x.number("mamba_d_ssm", 0) / heads),
                 x.number("mamba_n_groups"), x.number("mamba_d_state"), x.number("mamba_d_conv"));
}

/// Attention and Mamba 2 side by side in every layer.
void read_falcon_h1(model_reader& x) {
    x.add_attention();
    x.set_kinds([](std::uint32_t) { return layer_kind::state; });
    add_mamba2_by_d(x);
}

void read_granite_hybrid(model_reader& x) {
    if (!x.read_kinds("layer_types") && !x.read_kinds("layers_block_type")) {
        const auto attention = x.fields().numbers("attn_layer_indices");
        if (attention.empty())
            return x.fields().fail("layer_types is missing");
        x.set_kinds([&attention](std::uint32_t layer) {
            return std::count(attention.begin(), attention.end(), std::int64_t{layer}) != 0
                       ? layer_kind::full
                       : layer_kind::state;
        });
    }
    x.add_attention();
    add_mamba2_by_d(x);
}

struct model_family {
    void (*read)(model_reader&) = nullptr;
    /// Values of model_type.
    std::initializer_list<std::string_view> names;
};

void (*reader_of(const std::string& family))(model_reader&) {
    static const model_family families[] = {
        {read_plain, {"llama",     "mistral",   "ministral", "mixtral",       "qwen2",
                      "qwen2_moe", "qwen3",     "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text",
                      "phi3",      "gemma",     "olmo2",     "granite",       "granitemoe",
                      "glm4",      "glm4_moe",  "smollm3",   "ernie4_5",      "ernie4_5_moe",
                      "seed_oss",  "minimax_m2"}},
        {read_full, {"llama4_text"}},
        {read_windows<2>, {"gemma2", "gpt_oss"}},
        {read_windows<4>, {"cohere2", "olmo3"}},
        {read_windows<5>, {"gemma3n_text"}},
        {read_windows<6>, {"gemma3_text"}},
        {read_gemma4, {"gemma4_text"}},
        {read_mimo, {"mimo_v2_flash"}},
        {read_mla, {"deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa"}},
        {read_kimi_linear, {"kimi_linear"}},
        {read_qwen3_next, {"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"}},
        {read_nemotron_h, {"nemotron_h"}},
        {read_jamba, {"jamba"}},
        {read_falcon_h1, {"falcon_h1"}},
        {read_granite_hybrid, {"bamba", "granitemoehybrid"}},
    };
    for (const auto& x : families)
        if (std::find(x.names.begin(), x.names.end(), family) != x.names.end())
            return x.read;
    return nullptr;
}

} // namespace

caf::expected<model_cache> read_model_config(const nlohmann::json& config,
                                             const std::string& file) {
    auto where = file;
    auto own = config;
    // Models that see or hear keep the numbers of their language model in a part of its own.
    if (const auto text = config.find("text_config");
        text != config.end() && text->is_object() && !config.contains("num_hidden_layers")) {
        own = *text;
        where += ": text_config";
        for (const char* key : {"dtype", "torch_dtype"})
            if (config.contains(key) && !own.contains(key))
                own[key] = config[key];
    }
    json_fields type{own, where};
    const auto family = type.text("model_type");
    if (type.error())
        return type.error();
    const auto read = reader_of(family);
    if (!read)
        return make_error(
            errc::invalid_argument,
            "{}: the family (model_type) '{}' is not known: give its numbers by hand (--model "
            "layers=...,heads=...,head_dim=...), or its tensors (--page-table)",
            where, family);
    model_reader reader{own, where};
    if (!reader.fields().error())
        read(reader);
    return reader.finish(family);
}

} // namespace kvferry::tools
