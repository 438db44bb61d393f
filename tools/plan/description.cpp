// SPDX-License-Identifier: Apache-2.0
// From JSON to tensors: one description stands for the ranks and layers that are alike.
#include "tools/plan/description.hpp"

#include "messages/values/error_format.hpp"
#include "tools/plan/instances.hpp"
#include "tools/plan/json_fields.hpp"
#include "transport/planner/layout/layout_error.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace kvferry::tools {

namespace {

std::uint32_t small_number(json_fields& from, const char* key, std::uint32_t fallback) {
    return from.optional_number(key).value_or(fallback);
}

kv_tensor read_tensor(json_fields& from) {
    kv_tensor x;
    x.name = from.text("name", "");
    x.address = from.number("address", 0);
    x.dims = from.text("dims");
    x.shape = from.numbers("shape");
    x.strides = from.numbers("strides");
    x.element_type = from.text("dtype");
    x.element_bytes = small_number(from, "element_bytes", 0);
    x.layers = from.number_ranges("layers");
    x.role = from.text("role", "");
    x.group = small_number(from, "group", 0);
    x.heads = small_number(from, "heads", 0);
    x.window = from.optional_number("window");
    x.tokens_per_block = from.optional_number("tokens_per_block");
    x.tokens_per_row = small_number(from, "tokens_per_row", 1);
    x.tokens_are_dealt = from.flag("tokens_are_dealt", false);
    for (auto section : from.numbers("sections"))
        x.sections.push_back(section < 0 ? 0 : static_cast<std::uint64_t>(section));
    if (x.name.empty())
        x.name =
            (x.role.empty() ? "key, value" : x.role) + " of layers " + detail::ranges(x.layers);
    return x;
}

bool has_layer_dimension(const kv_tensor& x) {
    return (" " + x.dims + " ").find(" layer ") != std::string::npos;
}

/// The tensors of one stage. A tensor with several layers but no dimension for them is one for each
/// layer.
caf::expected<std::vector<kv_tensor>> tensors_of_stage(const std::vector<kv_tensor>& all,
                                                       const parallelism& split) {
    const auto stage = global_layers(split);
    const auto is_here = [&stage](std::uint32_t layer) {
        return layer >= stage.first && layer - stage.first < stage.count;
    };
    std::vector<kv_tensor> result;
    for (const auto& x : all) {
        if (has_layer_dimension(x)) {
            const auto here = std::count_if(x.layers.begin(), x.layers.end(), is_here);
            if (here == 0)
                continue;
            if (here != static_cast<std::ptrdiff_t>(x.layers.size()))
                return make_error(
                    errc::invalid_argument,
                    "tensor '{}': layers {} lie on several stages: give one tensor for each",
                    x.name, detail::ranges(x.layers));
            result.push_back(x);
            continue;
        }
        if (x.layers.size() > 1 && x.address != 0)
            return make_error(
                errc::invalid_argument,
                "tensor '{}': one address for the tensors of {} layers: list them one by one",
                x.name, x.layers.size());
        for (auto layer : x.layers)
            if (is_here(layer)) {
                result.push_back(x);
                result.back().layers = {layer};
                if (x.layers.size() > 1)
                    result.back().name = x.name + ", layer " + std::to_string(layer);
            }
    }
    return result;
}

} // namespace

caf::expected<std::vector<rank_info>>
ranks_of_description(const nlohmann::json& json, const std::string& file, const std::string& name) {
    json_fields from{json, file};
    instance_split split;
    split.tp = small_number(from, "tp", 1);
    split.pp = small_number(from, "pp", 1);
    split.cp = small_number(from, "cp", 1);
    split.attention_dp = small_number(from, "attention_dp", 0);
    const auto instance = from.text("instance", name);
    const auto fingerprint = from.text("fingerprint", "");
    const auto stages = from.numbers("layers_per_stage");
    std::vector<kv_tensor> tensors;
    std::uint32_t layers = 0;
    if (const auto* list = from.part("tensors"); !list || !list->is_array() || list->empty())
        from.fail("it has no tensors: give a list");
    else
        for (std::size_t index = 0; index < list->size(); ++index) {
            json_fields one{(*list)[index], file + ": tensor " + std::to_string(index)};
            tensors.push_back(read_tensor(one));
            if (auto error = one.finish())
                return error;
            for (auto layer : tensors.back().layers)
                layers = std::max(layers, layer + 1);
        }
    if (auto error = from.finish())
        return error;
    if (auto ranks = ranks_in(split, file); !ranks)
        return ranks.error();
    split.layers_per_stage = even_stages(layers, split.pp);
    if (!stages.empty()) {
        split.layers_per_stage.clear();
        for (auto count : stages) {
            if (count < 0 || count > std::numeric_limits<std::int32_t>::max())
                from.fail("layers_per_stage has " + std::to_string(count));
            split.layers_per_stage.push_back(static_cast<std::uint32_t>(count));
        }
        const auto sum = std::accumulate(split.layers_per_stage.begin(),
                                         split.layers_per_stage.end(), std::uint64_t{0});
        if (sum < layers)
            from.fail("layers_per_stage adds up to " + std::to_string(sum)
                      + ", there are tensors of layer " + std::to_string(layers - 1));
        if (split.layers_per_stage.size() != split.pp)
            from.fail("layers_per_stage names " + std::to_string(stages.size()) + " stages, pp is "
                      + std::to_string(split.pp));
        if (from.error())
            return from.error();
    }
    auto ranks = ranks_of(instance, split, [&tensors](const parallelism& own) {
        return tensors_of_stage(tensors, own);
    });
    if (!ranks)
        return add_context(ranks.error(), file);
    for (auto& rank : *ranks)
        rank.fingerprint = fingerprint;
    return ranks;
}

} // namespace kvferry::tools
