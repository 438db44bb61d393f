// SPDX-License-Identifier: Apache-2.0
// What the layers of hybrids remember: tokens in some, a state for each request in the others.
#include "tools/plan/hybrid_families.hpp"

#include "messages/values/error_format.hpp"
#include "tools/plan/model_reader.hpp"

#include <algorithm>

namespace kvferry::tools {

namespace {

void add_mamba2_by_d(model_reader& x) {
    const auto heads = x.number("mamba_n_heads");
    if (heads == 0)
        return x.fields().fail("mamba_n_heads is 0");
    x.add_mamba2(heads, x.number("mamba_d_head", x.number("mamba_d_ssm", 0) / heads),
                 x.number("mamba_n_groups"), x.number("mamba_d_state"), x.number("mamba_d_conv"));
}

} // namespace

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

void read_minimax(model_reader& x) {
    if (!x.read_kinds("layer_types")) {
        const auto kinds = x.fields().numbers("attn_type_list");
        if (kinds.size() != x.layers())
            return x.fields().fail("attn_type_list names " + std::to_string(kinds.size())
                                   + " layers, num_hidden_layers is " + std::to_string(x.layers()));
        x.set_kinds([&kinds](std::uint32_t layer) {
            return kinds[layer] == 1 ? layer_kind::full : layer_kind::state;
        });
    }
    x.add_attention();
    x.add_state("linear", x.number("num_attention_heads"), x.head_dim(), x.head_dim(),
                x.state_type());
}

} // namespace kvferry::tools
