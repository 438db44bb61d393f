// SPDX-License-Identifier: Apache-2.0
// Page tables of the default cache format.
#include "transport/planner/page_table/page_table_builder.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/head_split.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace kvferry {

namespace {

template <class... Args>
caf::error wrong(fmt::format_string<Args...> what, Args&&... args) {
    return make_error(errc::invalid_argument, "page table: {}",
                      fmt::format(what, std::forward<Args>(args)...));
}

caf::error above_zero(const char* name, std::uint64_t value) {
    return value == 0 ? wrong("{} is 0", name) : caf::error{};
}

caf::error check_format(const cache_format& x) {
    struct field {
        const char* name;
        std::uint64_t value;
    };
    for (auto [name, value] :
         {field{"layers", x.layers}, field{"head_dim", x.head_dim},
          field{"element_bytes", x.element_bytes}, field{"tokens_per_block", x.tokens_per_block},
          field{"window_tokens", x.window_tokens.value_or(1)},
          field{"kv_heads", x.kind == attention_kind::mla ? 1 : x.kv_heads}})
        if (auto error = above_zero(name, value))
            return error;
    if (x.first_layer > std::numeric_limits<std::uint32_t>::max() - x.layers)
        return wrong("first_layer is {}", x.first_layer);
    // Checked in floating point, where nothing overflows; page tables are limited to 2^48 bytes.
    if (1.0 * x.layers * std::max(1u, x.kv_heads) * 2 * x.head_dim * x.element_bytes
            * x.tokens_per_block
        > 0x1p47)
        return wrong("one block of all layers would have more than 2^47 bytes");
    if (x.kind == attention_kind::gqa && x.layout != mapper_kind::hnd
        && x.layout != mapper_kind::nhd)
        return wrong("layout is {}, a gqa cache is hnd or nhd", x.layout);
    return {};
}

caf::error check_place(const cache_format& format, const parallelism& split) {
    rank_info rank;
    rank.layout = split;
    rank.world_size = split.tp_size * split.pp_size * split.cp_size;
    rank.rank = instance_rank(split);
    if (auto error = check_parallelism(rank))
        return wrong("parallelism: {}", text_of(error));
    const auto sum = std::accumulate(split.layers_per_stage.begin(), split.layers_per_stage.end(),
                                     std::uint64_t{0});
    if (sum != format.layers)
        return wrong("layers is {}, layers_per_stage adds up to {}", format.layers, sum);
    return above_zero("the number of layers on this stage", global_layers(split).count);
}

} // namespace

caf::expected<page_table> build_page_table(const cache_format& format, const parallelism& split,
                                           const pool_place& place) {
    if (auto error = check_format(format))
        return error;
    if (auto error = check_place(format, split))
        return error;
    if (place.slot_count == 0 || place.slot_count > std::numeric_limits<std::int32_t>::max())
        return wrong("slot_count is {}", place.slot_count);

    const bool is_mla = format.kind == attention_kind::mla;
    const auto group = heads_group(split);
    pool_view view;
    view.roles =
        is_mla ? std::vector<std::string>{"key"} : std::vector<std::string>{"key", "value"};
    view.layout.kind = is_mla ? mapper_kind::replicated : format.layout;
    view.layout.element_type = format.element_type;
    view.layout.element_shape = {format.head_dim};
    const auto head_bytes =
        std::uint64_t{format.tokens_per_block} * format.head_dim * format.element_bytes;
    auto buffer_bytes = head_bytes;
    if (is_mla) {
        view.layout.num_replicas = group.size;
        view.layout.replica_index = group.rank;
    } else {
        if (auto error = split_heads(group, format.kv_heads, view.layout))
            return add_context(error, "page table");
        view.layout.shard_unit_bytes = head_bytes;
        buffer_bytes *= format.kv_heads / view.layout.num_shards;
    }

    const auto stage = global_layers(split);
    layer_group layers;
    layers.layers.resize(stage.count);
    std::iota(layers.layers.begin(), layers.layers.end(), format.first_layer + stage.first);
    layers.tokens_per_slot = format.tokens_per_block;
    layers.live_token_window = format.window_tokens;
    for (std::uint32_t layer = 0; layer < stage.count; ++layer)
        for (std::size_t buffer = 0; buffer < view.roles.size(); ++buffer)
            view.entries.push_back({layer, view.entries.size() * buffer_bytes, buffer_bytes});

    const auto slot_bytes = view.entries.size() * buffer_bytes;
    layers.views.push_back(std::move(view));
    page_table result;
    result.groups.push_back(std::move(layers));
    result.pools.push_back(
        {place.region, place.region_offset_bytes, slot_bytes, slot_bytes, place.slot_count});
    return result;
}

std::uint64_t footprint_bytes(const physical_pool& pool) {
    return pool.slot_stride_bytes * (pool.slot_count - 1)
           + std::max(pool.slot_bytes, pool.slot_stride_bytes);
}

} // namespace kvferry
