// SPDX-License-Identifier: Apache-2.0
// Strict parsing of `--model`.
#include "tools/plan/model_option.hpp"

#include "messages/type_ids.hpp"
#include "tools/common/key_values.hpp"
#include "tools/plan/json_fields.hpp"
#include "tools/plan/model_config.hpp"
#include "tools/plan/option_values.hpp"

#include <algorithm>
#include <sstream>

namespace kvferry::tools {

namespace {

/// Half a byte per element counts as half as many elements of one byte.
caf::error read_element_bytes(const key_values& values, cache_format& model) {
    const auto text = values.text("element_bytes", "");
    if (text == "0.5") {
        if (model.head_dim % 2 != 0)
            return wrong_flag("--model: element_bytes=0.5 needs an even head_dim, not "
                              + std::to_string(model.head_dim));
        model.head_dim /= 2;
        model.element_bytes = 1;
        model.element_type = "half a byte";
        return {};
    }
    number_reader numbers{values};
    numbers.read("element_bytes", model.element_bytes);
    model.element_type = std::to_string(model.element_bytes) + " bytes";
    return numbers.error;
}

caf::expected<mapper_kind> read_order(const key_values& values) {
    const auto layout = values.text("layout", "hnd");
    if (layout != "hnd" && layout != "nhd")
        return wrong_flag("--model: layout '" + layout + "' is not one of hnd, nhd");
    return layout == "nhd" ? mapper_kind::nhd : mapper_kind::hnd;
}

std::string about_format(const cache_format& model) {
    std::ostringstream out;
    out << model.layers << " layers, ";
    if (model.kind == attention_kind::mla)
        out << "mla, latent of " << model.head_dim << " x " << model.element_bytes << " B";
    else
        out << model.kv_heads << " KV heads of " << model.head_dim << " x " << model.element_bytes
            << " B, " << to_string(model.layout);
    out << ", blocks of " << model.tokens_per_block << " tokens";
    if (model.window_tokens)
        out << ", window " << *model.window_tokens;
    return out.str();
}

caf::expected<asked_model> parse_numbers(std::string_view text) {
    auto values = key_values::parse("--model", text,
                                    {"layers", "heads", "head_dim", "element_bytes",
                                     "tokens_per_block", "kind", "layout", "window"});
    if (!values)
        return values.error();
    cache_format format;
    format.layers = 4;
    format.kv_heads = 4;
    format.head_dim = 128;
    format.element_bytes = 4;
    format.tokens_per_block = 8;
    number_reader numbers{*values};
    numbers.read("layers", format.layers);
    numbers.read("heads", format.kv_heads);
    numbers.read("head_dim", format.head_dim);
    numbers.read("tokens_per_block", format.tokens_per_block);
    if (!values->text("window", "").empty())
        numbers.read("window", format.window_tokens.emplace());
    if (numbers.error)
        return numbers.error;
    if (auto error = read_element_bytes(*values, format))
        return error;
    const auto kind = values->text("kind", "gqa");
    if (kind != "gqa" && kind != "mla")
        return wrong_flag("--model: kind '" + kind + "' is not one of gqa, mla");
    format.kind = kind == "mla" ? attention_kind::mla : attention_kind::gqa;
    auto order = read_order(*values);
    if (!order)
        return order.error();
    format.layout = *order;
    return asked_model{format.layers, about_format(format), format};
}

caf::expected<asked_model> parse_config(const std::string& file, std::string_view text) {
    auto values =
        key_values::parse("--model", text, {"tokens_per_block", "layout", "element_type"});
    if (!values)
        return values.error();
    asked_model result;
    number_reader numbers{*values};
    numbers.read("tokens_per_block", result.storage.tokens_per_block);
    if (numbers.error)
        return numbers.error;
    if (result.storage.tokens_per_block == 0)
        return wrong_flag("--model: tokens_per_block is 0");
    auto order = read_order(*values);
    if (!order)
        return order.error();
    result.storage.order = *order;
    result.storage.element_type = values->text("element_type", "");
    auto json = read_json_file(file);
    if (!json)
        return json.error();
    auto config = read_model_config(*json, file);
    if (!config)
        return config.error();
    result.layers = config->layers;
    result.about = config->name;
    result.config = std::move(*config);
    return result;
}

} // namespace

caf::expected<asked_model> read_model_option(std::string_view text) {
    const auto first = text.substr(0, text.find(','));
    if (first.empty() || first.find('=') != first.npos)
        return parse_numbers(text);
    text.remove_prefix(std::min(first.size() + 1, text.size()));
    return parse_config(std::string{first}, text);
}

caf::expected<std::vector<rank_info>> ranks_of(const std::string& name, const instance_split& split,
                                               const asked_model& model) {
    if (!model.config)
        return ranks_of(name, split, model.format);
    return ranks_of(name, split, [&model](const parallelism& own) {
        return tensors_of(*model.config, model.storage, own);
    });
}

} // namespace kvferry::tools
