// SPDX-License-Identifier: Apache-2.0
// Strict parsing of the flags of `kvferry plan`.
#include "tools/plan/options.hpp"

#include "messages/type_ids.hpp"
#include "tools/common/key_values.hpp"
#include "tools/plan/description.hpp"
#include "tools/plan/groups.hpp"
#include "tools/plan/json_fields.hpp"
#include "tools/plan/model_option.hpp"
#include "tools/plan/option_values.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <string_view>

namespace kvferry::tools {

namespace {

/// Reads "3:2". Without a text, spreads `layers` over `pp` stages evenly.
caf::expected<std::vector<std::uint32_t>> parse_stages(const std::string& option,
                                                       std::string_view text, std::uint32_t pp,
                                                       std::uint32_t layers) {
    std::vector<std::uint32_t> result;
    if (text.empty())
        return even_stages(layers, pp);
    for (auto rest = text;;) {
        const auto colon = rest.find(':');
        auto count = number_of(option + ": layers_per_stage", rest.substr(0, colon));
        if (!count)
            return count.error();
        result.push_back(*count);
        if (colon == rest.npos)
            break;
        rest.remove_prefix(colon + 1);
    }
    if (result.size() != pp)
        return wrong_flag(option + ": layers_per_stage=" + std::string{text} + " names "
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
    number_reader numbers{*values};
    numbers.read("tp", result.tp);
    numbers.read("pp", result.pp);
    numbers.read("cp", result.cp);
    numbers.read("adp", result.attention_dp);
    numbers.read("layers", result.layers);
    numbers.read("first_layer", result.first_layer);
    if (numbers.error)
        return numbers.error;
    if (auto ranks = ranks_in(result, option); !ranks)
        return ranks.error();
    if (result.attention_dp != 0 && result.tp % result.attention_dp != 0)
        return wrong_flag(option + ": adp is " + std::to_string(result.attention_dp)
                          + ", must divide tp = " + std::to_string(result.tp));
    auto stages =
        parse_stages(option, values->text("layers_per_stage", ""), result.pp, result.layers);
    if (!stages)
        return stages.error();
    result.layers_per_stage = std::move(*stages);
    return result;
}

/// Reads a DP rank; 0 when the flag is not given.
caf::error read_dp_rank(const char* option, const std::string& text,
                        const std::vector<rank_info>& ranks, std::uint32_t& to) {
    if (text.empty())
        return {};
    auto value = number_of(option, text);
    if (!value)
        return value.error();
    const auto groups = dp_size(ranks.front().layout);
    if (*value >= groups)
        return wrong_flag(std::string{option} + " is " + text + ", the instance has "
                          + std::to_string(groups)
                          + (groups > 1 ? " groups (tp / adp)" : " group (no adp)"));
    to = *value;
    return {};
}

caf::error read_request(const plan_flags& flags, plan_question& result) {
    if (!flags.prompt.empty()) {
        auto value = number_of("--prompt", flags.prompt);
        if (!value)
            return value.error();
        if (*value == 0 || *value > 1u << 28)
            return wrong_flag("--prompt: " + flags.prompt + " tokens, must be 1 to 2^28");
        result.prompt_tokens = *value;
    }
    if (!flags.reused_prefix.empty()) {
        auto value = number_of("--reused-prefix", flags.reused_prefix);
        if (!value)
            return value.error();
        if (*value > result.prompt_tokens.value_or(0))
            return wrong_flag("--reused-prefix: " + flags.reused_prefix + " tokens of a prompt of "
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
            return wrong_flag("--allow-missing: '" + std::string{part}
                              + "' is not layers or roles");
        (part == "layers" ? to.layers : to.roles) = true;
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return {};
}

/// Two instances that run one model.
caf::error read_model(const plan_flags& flags, plan_question& result) {
    auto model = read_model_option(flags.model);
    if (!model)
        return std::move(model.error());
    result.about = model->about;
    struct side {
        const char* name;
        const std::string& split;
        std::vector<rank_info>& ranks;
    };
    for (const auto& x : {side{"context", flags.context, result.context},
                          side{"generation", flags.generation, result.generation}}) {
        auto split = parse_split(std::string{"--"} + x.name, x.split, model->layers);
        if (!split)
            return std::move(split.error());
        if (model->config && (split->layers != model->layers || split->first_layer != 0))
            return wrong_flag(std::string{"--"} + x.name
                              + ": layers and first_layer are the configuration's");
        auto ranks = ranks_of(x.name, *split, *model);
        if (!ranks)
            return std::move(ranks.error());
        x.ranks = std::move(*ranks);
    }
    if (model->config)
        result.about += "\n" + groups_text(result.context);
    return {};
}

/// Two instances as files describe them.
caf::error read_descriptions(const plan_flags& flags, plan_question& result) {
    for (const auto* other : {&flags.model, &flags.context, &flags.generation})
        if (!other->empty())
            return wrong_flag("--page-table and --against describe both sides: leave out --model,"
                              " --context and --generation");
    if (flags.page_table.empty() || flags.against.empty())
        return wrong_flag("--page-table A.json is the context side, --against B.json the generation"
                          " side: give both");
    struct side {
        const char* name;
        const std::string& file;
        std::vector<rank_info>& ranks;
    };
    for (const auto& x : {side{"context", flags.page_table, result.context},
                          side{"generation", flags.against, result.generation}}) {
        auto json = read_json_file(x.file);
        if (!json)
            return std::move(json.error());
        auto ranks = ranks_of_description(*json, x.file, x.name);
        if (!ranks)
            return std::move(ranks.error());
        x.ranks = std::move(*ranks);
    }
    result.about = "context: " + flags.page_table + "\n" + groups_text(result.context)
                   + "\ngeneration: " + flags.against + "\n" + groups_text(result.generation);
    return {};
}

} // namespace

caf::expected<plan_question> parse_plan_flags(const plan_flags& flags) {
    plan_question result;
    const bool described = !flags.page_table.empty() || !flags.against.empty();
    if (auto error = described ? read_descriptions(flags, result) : read_model(flags, result))
        return error;
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
