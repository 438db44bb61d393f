// SPDX-License-Identifier: Apache-2.0
// The tensors that a model's cache makes on one rank.
#include "tools/plan/model_cache.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/head_split.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <utility>

namespace kvferry::tools {

namespace {

bool share_slots(const cache_part& a, const cache_part& b) {
    return a.is_state == b.is_state && a.window == b.window;
}

} // namespace

caf::expected<std::vector<kv_tensor>>
tensors_of(const model_cache& model, const cache_storage& storage, const parallelism& split) {
    const auto stage = global_layers(split);
    const auto tp = heads_group(split);
    std::vector<kv_tensor> result;
    for (const auto& part : model.parts) {
        kv_tensor x;
        for (auto layer : part.layers)
            if (layer >= stage.first && layer - stage.first < stage.count)
                x.layers.push_back(layer);
        if (x.layers.empty())
            continue;
        const auto same = std::find_if(model.parts.begin(), model.parts.end(),
                                       [&](const auto& y) { return share_slots(part, y); });
        x.group = static_cast<std::uint32_t>(same - model.parts.begin());
        x.name = part.role;
        x.window = part.window;
        x.heads = part.heads;
        x.tokens_per_row = part.tokens_per_row;
        if (storage.tokens_per_block % part.tokens_per_row != 0)
            return make_error(errc::invalid_argument,
                              "--model: a row of {} stands for {} tokens, tokens_per_block is {}: "
                              "give a multiple (tokens_per_block={})",
                              part.role, part.tokens_per_row, storage.tokens_per_block,
                              2 * part.tokens_per_row);
        const bool is_plain = part.role == "key" || part.role == "value" || part.role == "key+value"
                              || part.role == "compressed";
        x.element_type =
            is_plain && !storage.element_type.empty() ? storage.element_type : part.element_type;
        const auto add = [&x](const char* name, std::uint32_t size) {
            x.dims += (x.dims.empty() ? "" : " ") + std::string{name};
            x.shape.push_back(size);
        };
        // The number of blocks decides nothing: one tells where a slot ends.
        add("block", 2);
        add("layer", static_cast<std::uint32_t>(x.layers.size()));
        if (part.role == "key+value")
            add("kv", 2);
        else
            x.role = part.role;
        std::uint32_t own = 0;
        if (part.heads != 0) {
            role_layout layout;
            if (auto error = split_heads(tp, part.heads, layout))
                return add_context(error, part.role);
            own = part.heads / layout.num_shards;
        }
        const bool by_token = storage.order == mapper_kind::nhd;
        if (own != 0 && !by_token)
            add("head", own);
        if (!part.is_state)
            add("token", storage.tokens_per_block / part.tokens_per_row);
        if (own != 0 && by_token)
            add("head", own);
        add("dim", part.dim);
        if (part.is_state)
            add("inner", part.inner);
        result.push_back(std::move(x));
    }
    return result;
}

} // namespace kvferry::tools
