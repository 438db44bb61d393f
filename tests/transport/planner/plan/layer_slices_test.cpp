// SPDX-License-Identifier: Apache-2.0
// Slices for some layers only: together they are the slice for all, byte by byte.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_expand.hpp"
#include "transport/planner/plan/slice_coverage.hpp"

#include <limits>
#include <map>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t layers = 6;

cache_format format_of(std::uint32_t tokens_per_block, mapper_kind kind = mapper_kind::hnd) {
    cache_format result;
    result.layers = layers;
    result.kv_heads = 4;
    result.head_dim = 4;
    result.tokens_per_block = tokens_per_block;
    result.layout = kind;
    return result;
}

/// The same cache with a pool and a region for each layer.
void give_each_layer_a_pool(rank_info& rank) {
    auto pages = *rank.pages;
    const auto whole = pages.pools.front();
    auto views = std::exchange(pages.groups.front().views, {});
    pages.pools.clear();
    for (std::uint32_t layer = 0; layer < pages.groups.front().layers.size(); ++layer) {
        auto pool = whole;
        pool.region = layer;
        pages.pools.push_back(pool);
        for (auto view : views) {
            std::erase_if(view.entries,
                          [layer](const buffer_entry& x) { return x.local_layer != layer; });
            view.pool = layer;
            pages.groups.front().views.push_back(std::move(view));
        }
    }
    rank.pages = std::move(pages);
}

/// Target byte -> source byte; each target byte once.
std::map<std::uint64_t, std::uint64_t> bytes_of(const copy_plan& plan, const rank_info& writer,
                                                const rank_info& receiver) {
    const auto bases = [](const rank_info& rank) {
        std::vector<std::uint64_t> regions;
        for (std::uint64_t region = 0; region < layers; ++region)
            regions.push_back((region + 1) << 32);
        auto result = pool_bases(*rank.pages, regions);
        REQUIRE(result);
        return std::move(*result);
    };
    std::map<std::uint64_t, std::uint64_t> result;
    expand(plan, bases(writer), bases(receiver),
           [&result](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
               for (std::uint64_t index = 0; index < bytes; ++index)
                   CHECK(result.emplace(to + index, from + index).second);
           });
    return result;
}

struct sides {
    rank_info writer;
    rank_info receiver;
    plan_cache cache;

    copy_plan plan(const kv_slice& source, const kv_slice& target) {
        auto made = make_plan(writer, source, receiver, target, cache);
        REQUIRE_MESSAGE(made, text_of_error(made ? caf::error{} : made.error()));
        return std::move(*made);
    }
};

/// The lowest layer of the receiver's pool that lacks bytes. Its slots begin in region 0; a slot
/// has its layers one after the other, in equal parts.
std::uint32_t first_without_all(const std::map<std::uint64_t, std::uint64_t>& together,
                                const std::map<std::uint64_t, std::uint64_t>& whole,
                                std::uint64_t slot_bytes) {
    auto result = layers;
    for (const auto& [to, from] : whole)
        if (!together.contains(to))
            result = std::min(result, static_cast<std::uint32_t>((to - (1ull << 32)) % slot_bytes
                                                                 / (slot_bytes / layers)));
    return result;
}

kv_slice all_blocks(std::uint32_t prompt, std::uint32_t per_block) {
    block_list blocks;
    for (std::uint32_t block = 0; block * per_block < prompt; ++block)
        blocks.slots.push_back(static_cast<std::int32_t>((block * 5 + 3) % 32));
    return {{0, prompt}, prompt, {std::move(blocks)}};
}

} // namespace

TEST_CASE("layers: slices for some layers each are together the slice for all") {
    std::mt19937 random{7};
    for (const bool pools_of_layers : {false, true})
        for (const auto target_tokens : {4u, 8u, 16u})
            for (const auto target_kind : {mapper_kind::hnd, mapper_kind::nhd}) {
                CAPTURE(pools_of_layers);
                CAPTURE(target_tokens);
                sides x{make_instance("ctx", {}, format_of(8), 32).front(),
                        make_instance("gen", {}, format_of(target_tokens, target_kind), 32).front(),
                        plan_cache{}};
                if (pools_of_layers)
                    give_each_layer_a_pool(x.writer);
                const std::uint32_t prompt = 27; // ends inside a block
                auto source = all_blocks(prompt, 8);
                const auto target = all_blocks(prompt, target_tokens);
                const auto whole = bytes_of(x.plan(source, target), x.writer, x.receiver);
                std::map<std::uint64_t, std::uint64_t> together;
                std::uint64_t bytes = 0;
                const std::uint32_t cut = 8 * (1 + random() % 3);
                // Chunks of the prompt, and for each some layers at a time, in no order.
                std::vector<std::pair<token_range, layer_range>> pieces;
                for (const auto tokens : {token_range{0, cut}, token_range{cut, prompt}})
                    for (const auto range :
                         {layer_range{0, 1}, layer_range{1, 4}, layer_range{4, layers}})
                        pieces.emplace_back(tokens, range);
                std::shuffle(pieces.begin(), pieces.end(), random);
                slice_coverage coverage;
                std::uint32_t first_missing = 0;
                for (const auto& [tokens, range] : pieces) {
                    CHECK(coverage.missing(x.writer, x.receiver, target));
                    first_missing =
                        coverage.first_missing_layer(x.writer, x.receiver, target, first_missing);
                    CHECK(first_missing
                          == first_without_all(together, whole,
                                               x.receiver.pages->pools[0].slot_stride_bytes));
                    source.tokens = tokens;
                    source.layers = range;
                    source.last = &range == &pieces.back().second;
                    coverage.add(source);
                    const auto plan = x.plan(source, target);
                    bytes += plan.bytes;
                    for (const auto& [to, from] : bytes_of(plan, x.writer, x.receiver))
                        CHECK(together.emplace(to, from).second);
                }
                CHECK_FALSE(coverage.missing(x.writer, x.receiver, target));
                CHECK(coverage.first_missing_layer(x.writer, x.receiver, target)
                      == std::numeric_limits<std::uint32_t>::max());
                CHECK((together == whole));
                CHECK(bytes == whole.size());
            }
}

TEST_CASE("layers: a slice for layers that a rank does not have moves nothing") {
    sides x{make_instance("ctx", {}, format_of(8), 32).front(),
            make_instance("gen", {}, format_of(8), 32).front(), plan_cache{}};
    auto source = all_blocks(16, 8);
    source.layers = {layers, layers + 3};
    CHECK(x.plan(source, all_blocks(16, 8)).bytes == 0);
}

TEST_CASE("layers: a state travels with the slice of its layer that reaches the prompt's end") {
    sides x{make_instance("ctx", {}, format_of(8), 32).front(),
            make_instance("gen", {}, format_of(8), 32).front(), plan_cache{}};
    for (auto* rank : {&x.writer, &x.receiver}) {
        pool_view view;
        view.pool = 1;
        view.roles = {"ssm_state"};
        view.layout.shard_unit_bytes = 64;
        view.entries = {{0, 0, 64}};
        rank->pages->groups.push_back({{7}, std::nullopt, std::nullopt, {view}});
        rank->pages->pools.push_back({1, 0, 64, 64, 4});
    }
    auto source = all_blocks(16, 8);
    source.groups.push_back({0, {2}});
    const auto target = source;
    const auto state_bytes = [&](token_range tokens, layer_range range, bool last) {
        source.tokens = tokens;
        source.layers = range;
        source.last = last;
        std::uint64_t result = 0;
        for (const auto& part : x.plan(source, target).parts)
            if (part.source_pool == 1)
                result += part.layout->bytes * part.slots.size();
        return result;
    };
    CHECK(state_bytes({0, 8}, {0, 8}, false) == 0);
    CHECK(state_bytes({8, 16}, {0, 7}, false) == 0);
    CHECK(state_bytes({8, 16}, {7, 8}, false) == 64);
    CHECK(state_bytes({8, 16}, {0, 3}, true) == 0);
    CHECK(state_bytes({0, 16}, {}, true) == 64);
}

TEST_CASE("coverage: the error names the first token and layer that no slice speaks for") {
    sides x{make_instance("ctx", {}, format_of(8), 32).front(),
            make_instance("gen", {}, format_of(8), 32).front(), plan_cache{}};
    const auto target = all_blocks(32, 8);
    auto sent = target;
    slice_coverage coverage;
    const auto expect_missing = [&](const char* token, const char* layer) {
        const auto problem = coverage.missing(x.writer, x.receiver, target);
        REQUIRE(problem);
        CHECK(code_of(problem) == errc::plan_invalid);
        const auto text = text_of(problem);
        CHECK_MESSAGE(text.find("token " + std::string{token} + " ") != std::string::npos, text);
        CHECK_MESSAGE(text.find("layer " + std::string{layer} + ",") != std::string::npos, text);
    };
    expect_missing("0", "0");
    sent.tokens = {0, 16};
    coverage.add(sent);
    expect_missing("16", "0");
    sent.tokens = {20, 32};
    coverage.add(sent);
    expect_missing("16", "0"); // a gap inside a block
    sent.tokens = {16, 20};
    sent.layers = {0, 5};
    coverage.add(sent);
    expect_missing("16", "5");
    sent.layers = {5, 6};
    coverage.add(sent);
    CHECK_FALSE(coverage.missing(x.writer, x.receiver, target));
}

TEST_CASE("coverage: what the target does not list need not be sent") {
    sides x{make_instance("ctx", {}, format_of(8), 32).front(),
            make_instance("gen", {}, format_of(8), 32).front(), plan_cache{}};
    auto target = all_blocks(32, 8);
    target.groups[0] = {2, {7, no_slot}}; // tokens 16 to 24
    auto sent = all_blocks(32, 8);
    sent.tokens = {16, 24};
    slice_coverage coverage;
    coverage.add(sent);
    CHECK_FALSE(coverage.missing(x.writer, x.receiver, target));
    target.groups[0].slots = {7, 8};
    CHECK(coverage.missing(x.writer, x.receiver, target));
    // Layers that only one side has are for allow_missing to decide.
    x.writer.pages->groups[0].layers = {10, 11, 12, 13, 14, 15};
    CHECK_FALSE(coverage.missing(x.writer, x.receiver, target));
}
