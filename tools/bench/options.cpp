// SPDX-License-Identifier: Apache-2.0
// From flags to blocks.
#include "tools/bench/options.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace kvferry::bench {

namespace {

constexpr std::uint32_t transfers_default_max = 1000;
/// Per side. Larger than the share of a last-level cache that one thread can have.
constexpr std::uint64_t footprint_default_bytes = std::uint64_t{256} << 20;

template <class... Args>
caf::error wrong(fmt::format_string<Args...> what, Args&&... args) {
    return make_error(errc::invalid_argument, fmt::format(what, std::forward<Args>(args)...));
}

} // namespace

caf::expected<bench_shape> shape_of(const bench_options& x) {
    for (auto [flag, value] : {std::pair<const char*, std::uint64_t>{"--regions", x.regions},
                               {"--region-bytes", x.region_bytes},
                               {"--per-block", x.per_block},
                               {"--in-flight", x.in_flight},
                               {"--context-tp", x.context_tp},
                               {"--generation-tp", x.generation_tp},
                               {"--tokens-per-block", x.tokens_per_block},
                               {"--repeat", x.repeat}})
        if (value == 0)
            return wrong("{} is 0", flag);
    if (x.region_bytes > std::numeric_limits<std::uint32_t>::max())
        return wrong("--region-bytes is {}, at most 4294967295", x.region_bytes);
    if (x.regions % x.per_block != 0)
        return wrong("--regions {} is not a multiple of --per-block {}", x.regions, x.per_block);
    if (auto route = parse_route_choice(x.route); !route)
        return add_context(route.error(), "--route");
    if (auto wire = parse_wire_choice(x.wire); !wire)
        return add_context(wire.error(), "--wire");
    bench_shape shape;
    shape.context_ranks = x.context_tp;
    shape.generation_ranks = x.generation_tp;
    shape.heads = std::max(x.context_tp, x.generation_tp);
    if (shape.heads % std::min(x.context_tp, x.generation_tp) != 0)
        return wrong("--context-tp {} and --generation-tp {}: one must divide the other",
                     x.context_tp, x.generation_tp);
    shape.tokens_per_block = x.tokens_per_block;
    const auto per_layer = std::uint64_t{shape.heads} * x.tokens_per_block;
    if (x.per_block % per_layer != 0)
        return wrong(
            "--per-block {} is not a multiple of the {} regions that a layer of a block has",
            x.per_block, per_layer);
    shape.layers = static_cast<std::uint32_t>(x.per_block / per_layer);
    shape.blocks_per_transfer = x.regions / x.per_block;
    shape.region_bytes = x.region_bytes;
    const auto block_bytes = std::uint64_t{x.per_block} * x.region_bytes;
    const auto at_once =
        std::uint64_t{shape.blocks_per_transfer} * std::max(x.in_flight, x.transfers);
    auto slots = x.footprint_bytes / block_bytes;
    if (x.footprint_bytes == 0)
        slots = std::max(at_once, footprint_default_bytes / block_bytes);
    if (slots < at_once)
        return wrong("--footprint {} has no room for {} bytes of transfers in one round",
                     x.footprint_bytes, at_once * block_bytes);
    if (slots > std::numeric_limits<std::int32_t>::max())
        return wrong("a pool of {} blocks is too large", slots);
    shape.slots = static_cast<std::uint32_t>(slots);
    shape.transfers_per_round = x.transfers;
    if (x.transfers == 0) // a slot is used once per round, so that every byte of it can be verified
        shape.transfers_per_round = std::max(
            x.in_flight, std::min(transfers_default_max, shape.slots / shape.blocks_per_transfer));
    return shape;
}

} // namespace kvferry::bench
