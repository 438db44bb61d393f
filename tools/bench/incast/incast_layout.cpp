// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/incast/incast_layout.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

namespace kvferry::bench {

namespace {

constexpr std::uint32_t tokens_of_block = 4;

/// K and V of one layer with one head: 16 KiB a token.
cache_format incast_format() {
    cache_format result;
    result.layers = 1;
    result.kv_heads = 1;
    result.head_dim = 4096;
    result.tokens_per_block = tokens_of_block;
    return result;
}

std::uint64_t word_of(std::uint32_t peer, std::uint32_t number, std::size_t at) {
    return ((std::uint64_t{peer} + 1) << 40 ^ (std::uint64_t{number} << 16) ^ at)
           * 0x9e3779b97f4a7c15;
}

} // namespace

incast_layout::incast_layout(const incast_options& options)
    : sizes_(options.sizes),
      bulk_blocks_(blocks_of(*std::max_element(options.sizes.begin(), options.sizes.end()))),
      small_blocks_(blocks_of(options.small_bytes)), order_(bulk_blocks_) {
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937{7});
    for (std::uint32_t block = 0; block < small_blocks_; ++block)
        order_.push_back(bulk_blocks_ + block);
}

kv_slice incast_layout::slice(std::uint32_t first, std::uint32_t count) const {
    kv_slice result{{0, count * tokens_of_block}, count * tokens_of_block, {{0, {}}}, true};
    auto& slots = result.groups.front().slots;
    const auto base = first / slots_of_peer() * slots_of_peer();
    for (std::uint32_t block = 0; block < count; ++block)
        slots.push_back(static_cast<std::int32_t>(base + order_[first - base + block]));
    return result;
}

kv_slice incast_layout::bulk(std::uint32_t place, std::uint64_t bytes) const {
    return slice(place * slots_of_peer(), blocks_of(bytes));
}

kv_slice incast_layout::urgent(std::uint32_t place) const {
    return slice(place * slots_of_peer() + bulk_blocks_, small_blocks_);
}

caf::expected<page_table> incast_layout::pages(std::uint32_t places) const {
    parallelism layout;
    layout.layers_per_stage = {1};
    return build_page_table(incast_format(), layout, {slots_of_peer() * places, 0, 0});
}

void incast_layout::write(std::span<std::byte> block, std::uint32_t peer, std::uint32_t number) {
    for (std::size_t at = 0; at + 8 <= block.size(); at += 8) {
        const auto word = word_of(peer, number, at);
        std::memcpy(block.data() + at, &word, sizeof word);
    }
}

bool incast_layout::is_right(std::span<const std::byte> block, std::uint32_t peer,
                             std::uint32_t number) {
    for (std::size_t at = 0; at + 8 <= block.size(); at += 8) {
        const auto word = word_of(peer, number, at);
        if (std::memcmp(block.data() + at, &word, sizeof word) != 0)
            return false;
    }
    return true;
}

caf::expected<tools::pool_rank> start_incast_rank(runtime& actors, const incast_options& options,
                                                  const incast_layout& layout,
                                                  const std::string& name, std::uint32_t places) {
    worker_options how;
    how.instance = name;
    how.layout.layers_per_stage = {1};
    const auto route = parse_route_choice(options.route);
    if (!route)
        return route.error();
    const auto wire = parse_wire_choice(options.wire);
    if (!wire)
        return wire.error();
    how.route = *route;
    how.same_host_link = options.wire == "auto"; // else as between machines
    how.wire = *wire;
    how.bounds.loop_spin = std::chrono::microseconds{options.spin_us};
    return tools::pool_rank::start(actors, std::move(how), layout.pages(places));
}

} // namespace kvferry::bench
