// SPDX-License-Identifier: Apache-2.0
// Strict parsing of the flags of `kvferry plan`.
#include "tools/plan/options.hpp"

#include "messages/type_ids.hpp"
#include "tools/common/key_values.hpp"

#include <algorithm>
#include <charconv>

namespace kvferry::tools {

namespace {

caf::error wrong(const std::string& what) {
    return make_error(errc::invalid_argument, what);
}

caf::expected<std::uint32_t> number(const std::string& option, std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc{} || end != text.data() + text.size())
        return wrong(option + ": '" + std::string{text} + "' is not a number below 2^32");
    return value;
}

/// Reads the numbers of one option. Keeps the first error and skips the rest.
class reader {
public:
    reader(const key_values& from, caf::error& error) : from_(from), error_(error) {}

    void operator()(std::string_view key, std::uint32_t& to) {
        if (error_)
            return;
        if (auto value = from_.number(key, to))
            to = *value;
        else
            error_ = value.error();
    }

private:
    const key_values& from_;
    caf::error& error_;
};

/// Half a byte per element counts as half as many elements of one byte.
caf::error read_element_bytes(const key_values& values, cache_format& model) {
    const auto text = values.text("element_bytes", "");
    if (text == "0.5") {
        if (model.head_dim % 2 != 0)
            return wrong("--model: element_bytes=0.5 needs an even head_dim, not "
                         + std::to_string(model.head_dim));
        model.head_dim /= 2;
        model.element_bytes = 1;
        model.element_type = "half a byte";
        return {};
    }
    caf::error error;
    reader{values, error}("element_bytes", model.element_bytes);
    model.element_type = std::to_string(model.element_bytes) + " bytes";
    return error;
}

caf::expected<cache_format> parse_model(std::string_view text) {
    auto values = key_values::parse("--model", text,
                                    {"layers", "heads", "head_dim", "element_bytes",
                                     "tokens_per_block", "kind", "layout", "window"});
    if (!values)
        return values.error();
    cache_format result;
    result.layers = 4;
    result.kv_heads = 4;
    result.head_dim = 128;
    result.element_bytes = 4;
    result.tokens_per_block = 8;
    caf::error error;
    reader read{*values, error};
    read("layers", result.layers);
    read("heads", result.kv_heads);
    read("head_dim", result.head_dim);
    read("tokens_per_block", result.tokens_per_block);
    if (!values->text("window", "").empty())
        read("window", result.window_tokens.emplace());
    if (!error)
        error = read_element_bytes(*values, result);
    if (error)
        return error;
    const auto kind = values->text("kind", "gqa");
    const auto layout = values->text("layout", "hnd");
    if (kind != "gqa" && kind != "mla")
        return wrong("--model: kind '" + kind + "' is not one of gqa, mla");
    if (layout != "hnd" && layout != "nhd")
        return wrong("--model: layout '" + layout + "' is not one of hnd, nhd");
    result.kind = kind == "mla" ? attention_kind::mla : attention_kind::gqa;
    result.layout = layout == "nhd" ? mapper_kind::nhd : mapper_kind::hnd;
    return result;
}

/// Reads "3:2". Without a text, spreads `layers` over `pp` stages evenly.
caf::expected<std::vector<std::uint32_t>> parse_stages(const std::string& option,
                                                       std::string_view text, std::uint32_t pp,
                                                       std::uint32_t layers) {
    std::vector<std::uint32_t> result;
    if (text.empty()) {
        for (std::uint32_t stage = 0; stage < pp; ++stage)
            result.push_back(layers / pp + (stage < layers % pp ? 1 : 0));
        return result;
    }
    for (auto rest = text;;) {
        const auto colon = rest.find(':');
        auto count = number(option + ": layers_per_stage", rest.substr(0, colon));
        if (!count)
            return count.error();
        result.push_back(*count);
        if (colon == rest.npos)
            break;
        rest.remove_prefix(colon + 1);
    }
    if (result.size() != pp)
        return wrong(option + ": layers_per_stage=" + std::string{text} + " names "
                     + std::to_string(result.size()) + " stages, pp is " + std::to_string(pp));
    return result;
}

caf::expected<instance_split> parse_split(const std::string& option, std::string_view text,
                                          std::uint32_t layers) {
    auto values = key_values::parse(
        option, text, {"tp", "pp", "cp", "adp", "layers", "first_layer", "layers_per_stage"});
    if (!values)
        return values.error();
    instance_split result;
    result.layers = layers;
    std::uint32_t attention_dp = 0;
    caf::error error;
    reader read{*values, error};
    read("tp", result.tp);
    read("pp", result.pp);
    read("cp", result.cp);
    read("adp", attention_dp);
    read("layers", result.layers);
    read("first_layer", result.first_layer);
    if (error)
        return error;
    if (attention_dp > 1)
        return wrong(option + ": adp is " + std::to_string(attention_dp) + ", must be 0 or 1");
    std::uint64_t ranks = 1;
    for (std::uint64_t size : {result.tp, result.pp, result.cp}) {
        ranks *= size;
        if (ranks == 0 || ranks > plan_ranks_max)
            return wrong(option + ": tp=" + std::to_string(result.tp)
                         + ", pp=" + std::to_string(result.pp) + ", cp=" + std::to_string(result.cp)
                         + ": their product must be from 1 to " + std::to_string(plan_ranks_max));
    }
    result.attention_dp = attention_dp == 1;
    auto stages =
        parse_stages(option, values->text("layers_per_stage", ""), result.pp, result.layers);
    if (!stages)
        return stages.error();
    result.layers_per_stage = std::move(*stages);
    return result;
}

/// Reads a DP rank; 0 when the flag is not given.
caf::error read_dp_rank(const char* option, const std::string& text, const instance_split& split,
                        std::uint32_t& to) {
    if (text.empty())
        return {};
    auto value = number(option, text);
    if (!value)
        return value.error();
    const auto groups = split.attention_dp ? split.tp : 1;
    if (*value >= groups)
        return wrong(std::string{option} + " is " + text + ", the instance has "
                     + std::to_string(groups)
                     + (split.attention_dp ? " groups (tp)" : " group (no adp=1)"));
    to = *value;
    return {};
}

caf::error read_request(const plan_flags& flags, plan_question& result) {
    if (!flags.prompt.empty()) {
        auto value = number("--prompt", flags.prompt);
        if (!value)
            return value.error();
        if (*value == 0 || *value > 1u << 28)
            return wrong("--prompt: " + flags.prompt + " tokens, must be 1 to 2^28");
        result.prompt_tokens = *value;
    }
    if (!flags.reused_prefix.empty()) {
        auto value = number("--reused-prefix", flags.reused_prefix);
        if (!value)
            return value.error();
        if (*value > result.prompt_tokens.value_or(0))
            return wrong("--reused-prefix: " + flags.reused_prefix + " tokens of a prompt of "
                         + std::to_string(result.prompt_tokens.value_or(0))
                         + " (--prompt says how long it is)");
        result.reused_prefix_tokens = *value;
    }
    return {};
}

/// Reads "layers", "roles" or "layers,roles".
caf::error read_allowed(std::string_view text, allow_missing& to) {
    while (!text.empty()) {
        const auto comma = std::min(text.find(','), text.size());
        const auto part = text.substr(0, comma);
        if (part != "layers" && part != "roles")
            return wrong("--allow-missing: '" + std::string{part} + "' is not layers or roles");
        (part == "layers" ? to.layers : to.roles) = true;
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return {};
}

} // namespace

caf::expected<plan_question> parse_plan_flags(const plan_flags& flags) {
    plan_question result;
    auto model = parse_model(flags.model);
    if (!model)
        return model.error();
    result.model = std::move(*model);
    auto context = parse_split("--context", flags.context, result.model.layers);
    if (!context)
        return context.error();
    result.context = std::move(*context);
    auto generation = parse_split("--generation", flags.generation, result.model.layers);
    if (!generation)
        return generation.error();
    result.generation = std::move(*generation);
    if (auto error =
            read_dp_rank("--context-dp", flags.context_dp, result.context, result.context_dp))
        return error;
    if (auto error = read_dp_rank("--generation-dp", flags.generation_dp, result.generation,
                                  result.generation_dp))
        return error;
    if (auto error = read_request(flags, result))
        return error;
    if (auto error = read_allowed(flags.allow_missing, result.allowed))
        return error;
    return result;
}

} // namespace kvferry::tools
