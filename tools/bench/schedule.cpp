// SPDX-License-Identifier: Apache-2.0
// Shuffles, slices and contents.
#include "tools/bench/schedule.hpp"

#include "tools/engine/random.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace kvferry::bench {

namespace {

std::vector<std::int32_t> shuffled(std::uint32_t count, std::uint64_t seed) {
    std::vector<std::int32_t> places(count);
    std::iota(places.begin(), places.end(), 0);
    engine::splitmix64 random{seed};
    for (std::size_t left = count; left > 1; --left)
        std::swap(places[left - 1], places[random.next() % left]);
    return places;
}

/// Number of the row of one token in one slot of one layer.
std::uint64_t row_of(const bench_shape& shape, place at) {
    return (std::uint64_t{at.layer} * shape.slots + at.slot) * shape.tokens_per_block + at.token;
}

} // namespace

std::uint64_t offset_of(const bench_shape& shape, side role, place at) {
    const std::uint64_t heads = shape.heads_of(role);
    return (row_of(shape, at) * heads + at.head % heads) * shape.region_bytes;
}

std::uint64_t content_of(const bench_shape& shape, place at) {
    return row_of(shape, at) * shape.heads + at.head;
}

schedule::schedule(const bench_shape& shape)
    : shape_(shape), source_slots_(shuffled(shape.slots, 1)),
      target_slots_(shuffled(shape.slots, 2)) {}

kv_slice schedule::slice(side role, std::uint64_t transfer) const {
    const auto& slots = role == side::context ? source_slots_ : target_slots_;
    kv_slice result;
    result.prompt_tokens = shape_.blocks_per_transfer * shape_.tokens_per_block;
    result.tokens = {0, result.prompt_tokens};
    block_list blocks;
    blocks.slots.reserve(shape_.blocks_per_transfer);
    for (std::uint32_t block = 0; block < shape_.blocks_per_transfer; ++block)
        blocks.slots.push_back(
            slots[(transfer * shape_.blocks_per_transfer + block) % shape_.slots]);
    result.groups.push_back(std::move(blocks));
    return result;
}

kv_slice schedule::warm_up(side role) const {
    kv_slice result;
    result.prompt_tokens = shape_.tokens_per_block;
    result.tokens = {0, result.prompt_tokens};
    block_list blocks;
    blocks.slots.push_back(role == side::context ? source_slots_.front() : target_slots_.back());
    result.groups.push_back(std::move(blocks));
    return result;
}

kv_slice schedule::sweep() const {
    kv_slice result;
    result.prompt_tokens = shape_.slots * shape_.tokens_per_block;
    result.tokens = {0, result.prompt_tokens};
    block_list blocks;
    blocks.slots.resize(shape_.slots);
    std::iota(blocks.slots.begin(), blocks.slots.end(), 0);
    result.groups.push_back(std::move(blocks));
    return result;
}

page_table page_table_of(const bench_shape& shape, side role, std::uint32_t rank) {
    const auto token_bytes = shape.tokens_per_block * shape.region_bytes;
    const auto slot_bytes = shape.heads_of(role) * token_bytes;
    pool_view view;
    view.roles = {"key"};
    view.layout.kind = mapper_kind::replicated;
    if (shape.heads > 1) {
        view.layout.kind = mapper_kind::nhd;
        view.layout.num_shards = shape.ranks(role);
        view.layout.shard_index = rank;
        view.layout.shard_unit_bytes = token_bytes;
    }
    view.layout.element_type = "byte";
    view.layout.element_shape = {static_cast<std::uint32_t>(shape.region_bytes)};
    layer_group group;
    group.tokens_per_slot = shape.tokens_per_block;
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
        group.layers.push_back(layer);
        view.entries.push_back(
            {layer, std::uint64_t{layer} * shape.slots * slot_bytes, slot_bytes});
    }
    group.views.push_back(std::move(view));
    page_table result;
    result.groups.push_back(std::move(group));
    result.pools.push_back({0, 0, slot_bytes, slot_bytes, shape.slots});
    return result;
}

void write_content(std::uint64_t content, std::span<std::byte> to) {
    engine::splitmix64 random{content * 0x9e3779b97f4a7c15U
                              + 1}; // never the zeros of a cleared pool
    for (std::size_t at = 0; at < to.size(); at += sizeof(std::uint64_t)) {
        const auto word = random.next();
        std::memcpy(to.data() + at, &word, std::min(sizeof word, to.size() - at));
    }
}

} // namespace kvferry::bench
