// SPDX-License-Identifier: Apache-2.0
// Page tables, put together piece by piece or from the numbers of a model. What a table must hold
// is checked when it is published.
#include "actors/c_api/objects.hpp"
#include "actors/c_api/sized.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
#include "transport/planner/page_table/tensor_pages.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

using namespace kvferry;
using namespace kvferry::c_api;

namespace kvferry::c_api {

static_assert(KVF_HND == static_cast<int>(mapper_kind::hnd)
              && KVF_REPLICATED == static_cast<int>(mapper_kind::replicated)
              && KVF_NHD == static_cast<int>(mapper_kind::nhd)
              && KVF_SECTIONED == static_cast<int>(mapper_kind::sectioned));
static_assert(KVF_GQA == static_cast<int>(attention_kind::gqa)
              && KVF_MLA == static_cast<int>(attention_kind::mla));

namespace {

std::uint32_t one_at_least(std::uint32_t count) {
    return count == 0 ? 1 : count;
}

template <class Kind>
Kind kind_of(std::uint32_t number, Kind last, const char* name) {
    if (number > static_cast<std::uint32_t>(last))
        refuse(errc::invalid_argument, "{} is {}", name, number);
    return static_cast<Kind>(number);
}

template <class Value>
std::optional<Value> unless_zero(Value value) {
    return value == 0 ? std::optional<Value>{} : value;
}

kvf_pages* add(page_table table) {
    auto made = std::make_shared<c_pages>();
    made->table = std::move(table);
    return as_handle<kvf_pages>(all_pages().add(std::move(made)));
}

pool_view view_of(const kvf_view& given) {
    pool_view result;
    result.pool = given.pool;
    for (std::uint32_t index = 0; index < given.role_count; ++index)
        result.roles.emplace_back(
            &target(items(given.roles, given.role_count, "view.roles")[index], "view.roles[]"));
    std::sort(result.roles.begin(), result.roles.end());
    auto& layout = result.layout;
    layout.kind = kind_of(given.order, mapper_kind::sectioned, "view.order");
    layout.num_shards = one_at_least(given.shards);
    layout.shard_index = given.shard;
    layout.num_replicas = one_at_least(given.replicas);
    layout.replica_index = given.replica;
    layout.shard_unit_bytes = unless_zero(given.unit_bytes);
    layout.section_bytes = copy_of(given.section_bytes, given.section_count, "view.section_bytes");
    layout.element_type = text_or_empty(given.element_type);
    layout.element_shape = copy_of(given.element_shape, given.element_rank, "view.element_shape");
    items(given.entries, given.entry_count, "view.entries");
    for (std::uint64_t index = 0; index < given.entry_count; ++index) {
        const auto entry = read(element(given.entries, index, "kvf_entry"), "kvf_entry");
        result.entries.push_back({entry.layer, entry.offset_bytes, entry.bytes});
    }
    return result;
}

kv_tensor tensor_of(const kvf_tensor& given) {
    kv_tensor result;
    result.name = text_or_empty(given.name);
    result.address = reinterpret_cast<std::uintptr_t>(given.base);
    result.dims = text_or_empty(given.dims);
    result.shape = copy_of(given.shape, given.dimensions, "kvf_tensor.shape");
    if (given.strides)
        result.strides = copy_of(given.strides, given.dimensions, "kvf_tensor.strides");
    result.element_type = text_or_empty(given.element_type);
    result.element_bytes = given.element_bytes;
    result.layers = copy_of(given.layers, given.layer_count, "kvf_tensor.layers");
    result.role = text_or_empty(given.role);
    result.group = given.group;
    result.heads = given.heads;
    result.window = unless_zero(given.window_tokens);
    result.tokens_per_block = unless_zero(given.tokens_per_block);
    result.sections = copy_of(given.sections, given.section_count, "kvf_tensor.sections");
    if (given.flags & ~std::uint32_t{KVF_TOKENS_ARE_DEALT})
        refuse(errc::unsupported, "kvf_tensor.flags is {}", given.flags);
    result.tokens_per_row = std::max(given.tokens_per_row, std::uint32_t{1});
    result.tokens_are_dealt = (given.flags & KVF_TOKENS_ARE_DEALT) != 0;
    return result;
}

std::vector<kv_tensor> tensors_of(const kvf_tensor* tensors, std::size_t count) {
    std::vector<kv_tensor> result;
    items(tensors, count, "tensors");
    for (std::size_t index = 0; index < count; ++index)
        result.push_back(tensor_of(read(element(tensors, index, "kvf_tensor"), "kvf_tensor")));
    return result;
}

} // namespace

parallelism place_of(const kvf_parallelism& given) {
    return {one_at_least(given.tp_size),
            given.tp_rank,
            one_at_least(given.pp_size),
            given.pp_rank,
            one_at_least(given.cp_size),
            given.cp_rank,
            given.attention_dp != 0,
            copy_of(given.layers_per_stage, given.stages, "kvf_parallelism.layers_per_stage"),
            one_at_least(given.attention_dp)};
}

} // namespace kvferry::c_api

extern "C" {

int kvf_pages_from_model(const kvf_model* model, const kvf_parallelism* place, uint32_t slots,
                         kvf_pages** pages) {
    return guarded([&] {
        auto& result = target(pages, "pages");
        const auto given = read(model, "kvf_model");
        cache_format format;
        format.layers = given.layers;
        format.first_layer = given.first_layer;
        format.kv_heads = given.kv_heads;
        format.head_dim = given.head_dim;
        format.element_bytes = unless_zero(given.element_bytes).value_or(format.element_bytes);
        if (given.element_type)
            format.element_type = given.element_type;
        format.tokens_per_block = given.tokens_per_block;
        format.kind = kind_of(given.attention, attention_kind::mla, "kvf_model.attention");
        format.layout = kind_of(given.order, mapper_kind::sectioned, "kvf_model.order");
        format.window_tokens = unless_zero(given.window_tokens);
        result = add(value_of(
            build_page_table(format, place_of(read(place, "kvf_parallelism")), {slots, 0, 0})));
    });
}

int kvf_tensors_regions(const kvf_tensor* tensors, size_t tensor_count, kvf_region* regions,
                        size_t* count) {
    return guarded([&] {
        auto& room = target(count, "count");
        const auto extents = value_of(extents_of(tensors_of(tensors, tensor_count)));
        const auto has = std::exchange(room, extents.size());
        if (has < room)
            refuse(errc::limit_exceeded, "there are {} regions, and room for {}", room, has);
        for (std::size_t index = 0; index < extents.size(); ++index) {
            kvf_region result{};
            result.base = reinterpret_cast<void*>(extents[index].address);
            result.bytes = extents[index].bytes;
            const auto stride = size_of(regions, "kvf_region");
            write(element(regions, index, "kvf_region"), stride, result);
        }
    });
}

int kvf_pages_from_tensors(const kvf_tensor* tensors, size_t tensor_count,
                           const kvf_parallelism* place, const kvf_region* regions,
                           size_t region_count, kvf_pages** pages) {
    return guarded([&] {
        auto& result = target(pages, "pages");
        const auto given = tensors_of(tensors, tensor_count);
        std::vector<memory_extent> extents;
        items(regions, region_count, "regions");
        for (std::size_t index = 0; index < region_count; ++index) {
            const auto region = read(element(regions, index, "kvf_region"), "kvf_region");
            extents.push_back({reinterpret_cast<std::uintptr_t>(region.base), region.bytes});
        }
        result = add(
            value_of(build_page_table(given, place_of(read(place, "kvf_parallelism")), extents)));
    });
}

int kvf_pages_new(kvf_pages** pages) {
    return guarded([&] { target(pages, "pages") = add({}); });
}

int kvf_pages_add_pool(kvf_pages* pages, const kvf_pool* pool, uint32_t* index) {
    return guarded([&] {
        const auto found = all_pages().find(pages);
        const auto given = read(pool, "kvf_pool");
        std::lock_guard lock{found->mutex};
        auto& pools = found->table.pools;
        pools.push_back({given.region, given.region_offset_bytes, given.slot_bytes,
                         given.slot_stride_bytes, given.slots});
        if (index)
            *index = static_cast<std::uint32_t>(pools.size() - 1);
    });
}

int kvf_pages_add_group(kvf_pages* pages, const kvf_group* group, uint32_t* index) {
    return guarded([&] {
        const auto found = all_pages().find(pages);
        const auto given = read(group, "kvf_group");
        layer_group added{copy_of(given.layers, given.layer_count, "kvf_group.layers"),
                          unless_zero(given.tokens_per_slot),
                          unless_zero(given.window_tokens),
                          {}};
        std::lock_guard lock{found->mutex};
        auto& groups = found->table.groups;
        groups.push_back(std::move(added));
        if (index)
            *index = static_cast<std::uint32_t>(groups.size() - 1);
    });
}

int kvf_pages_add_view(kvf_pages* pages, uint32_t group, const kvf_view* view) {
    return guarded([&] {
        const auto found = all_pages().find(pages);
        auto added = view_of(read(view, "kvf_view"));
        std::lock_guard lock{found->mutex};
        auto& groups = found->table.groups;
        if (group >= groups.size())
            refuse(errc::invalid_argument, "group is {} of {}", group, groups.size());
        if (added.pool >= found->table.pools.size())
            refuse(errc::invalid_argument, "kvf_view.pool is {} of {}", added.pool,
                   found->table.pools.size());
        groups[group].views.push_back(std::move(added));
    });
}

int kvf_pages_pool(kvf_pages* pages, uint32_t index, kvf_pool* pool) {
    return guarded([&] {
        const auto found = all_pages().find(pages);
        std::lock_guard lock{found->mutex};
        const auto& pools = found->table.pools;
        if (index >= pools.size())
            refuse(errc::invalid_argument, "pool {} of {}", index, pools.size());
        kvf_pool result{};
        result.region = pools[index].region;
        result.region_offset_bytes = pools[index].region_offset_bytes;
        result.slot_bytes = pools[index].slot_bytes;
        result.slot_stride_bytes = pools[index].slot_stride_bytes;
        result.slots = pools[index].slot_count;
        result.bytes = footprint_bytes(pools[index]);
        write(pool, result, "kvf_pool");
    });
}

int kvf_pages_free(kvf_pages* pages) {
    return guarded([&] {
        if (pages)
            all_pages().remove(pages);
    });
}

} // extern "C"
