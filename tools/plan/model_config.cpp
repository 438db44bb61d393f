// SPDX-License-Identifier: Apache-2.0
// The families of models, by what their caches have in common. Those with states: hybrid_families.
#include "tools/plan/model_config.hpp"

#include "messages/values/error_format.hpp"
#include "tools/plan/hybrid_families.hpp"
#include "tools/plan/model_reader.hpp"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <string_view>

namespace kvferry::tools {

namespace {

constexpr std::int64_t tokens_per_row_max = 1 << 16;

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

/// Step-3 and later: K and V have a name of their own, and so have the layers with window.
void read_step(model_reader& x) {
    x.read_kinds("layer_types");
    const auto heads = x.number("num_attention_groups");
    const auto dim = x.head_dim();
    x.add_heads(x.layers_of(layer_kind::full), heads, dim, dim, {});
    const auto windows = x.layers_of(layer_kind::window);
    if (windows.empty())
        return;
    const nlohmann::json none = nlohmann::json::object();
    const auto* part = x.fields().part("attention_other_setting");
    json_fields other{part ? *part : none, "attention_other_setting"};
    const auto window_heads = other.optional_number("num_attention_groups").value_or(heads);
    const auto window_dim = other.optional_number("head_dim").value_or(dim);
    if (other.error())
        return x.fields().fail(text_of(other.error()));
    x.add_heads(windows, window_heads, window_dim, window_dim, x.window_tokens());
}

/// Every `cla_share_factor`-th layer has a cache, which the next ones read as well.
void read_hunyuan(model_reader& x) {
    const auto period =
        x.fields().flag("use_cla", false) ? x.number("cla_share_factor", 2) : std::uint32_t{1};
    if (period == 0)
        return x.fields().fail("cla_share_factor is 0");
    x.set_kinds([period](std::uint32_t layer) {
        return layer % period == 0 ? layer_kind::full : layer_kind::none;
    });
    x.add_attention();
}

void read_mla(model_reader& x) {
    x.add_latent();
}

/// Each layer has a window of one latent; most have rows that stand for 4 or 128 tokens as well.
void read_deepseek_v4(model_reader& x) {
    const auto ratios = x.fields().numbers("compress_ratios"); // of speculative layers, too
    if (ratios.size() < x.layers())
        return x.fields().fail("compress_ratios names " + std::to_string(ratios.size())
                               + " layers, num_hidden_layers is " + std::to_string(x.layers()));
    std::map<std::int64_t, std::vector<std::uint32_t>> layers_by_ratio;
    for (std::uint32_t layer = 0; layer < x.layers(); ++layer)
        layers_by_ratio[ratios[layer]].push_back(layer);
    x.set_kinds([](std::uint32_t) { return layer_kind::window; });
    x.add_rows("key", x.layers_of(layer_kind::window), x.head_dim(), x.window_tokens());
    for (const auto& [ratio, layers] : layers_by_ratio) {
        if (ratio < 0 || ratio > tokens_per_row_max)
            return x.fields().fail("compress_ratios has " + std::to_string(ratio));
        if (ratio > 1)
            x.add_compressed(layers, static_cast<std::uint32_t>(ratio));
    }
}

struct model_family {
    void (*read)(model_reader&) = nullptr;
    /// Values of model_type.
    std::initializer_list<std::string_view> names;
};

void (*reader_of(const std::string& family))(model_reader&) {
    static const model_family families[] = {
        {read_plain,
         {"llama",     "mistral",    "ministral",   "mixtral",       "qwen2",
          "qwen2_moe", "qwen3",      "qwen3_moe",   "qwen3_vl_text", "qwen3_vl_moe_text",
          "phi3",      "gemma",      "olmo2",       "granite",       "granitemoe",
          "glm4",      "glm4_moe",   "smollm3",     "ernie4_5",      "ernie4_5_moe",
          "seed_oss",  "minimax_m2", "bailing_moe", "bailing_moe_v2"}},
        {read_full, {"llama4_text"}},
        {read_windows<2>, {"gemma2", "gpt_oss"}},
        {read_windows<4>, {"cohere2", "olmo3"}},
        {read_windows<5>, {"gemma3n_text"}},
        {read_windows<6>, {"gemma3_text"}},
        {read_gemma4, {"gemma4_text"}},
        {read_mimo, {"mimo_v2_flash"}},
        {read_step, {"step3_text", "step3p5"}},
        {read_hunyuan, {"hunyuan", "hunyuan_v1_dense", "hunyuan_v1_moe"}},
        {read_minimax, {"minimax", "minimax_text_01", "minimax_m1"}},
        {read_deepseek_v4, {"deepseek_v4"}},
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
