// SPDX-License-Identifier: Apache-2.0
// The tensors of real engines: what page tables they make, and transfers between each pair.
#include "tests/support/contains.hpp"
#include "tests/support/tensor_ranks.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t layers = 3, heads = 4, head_dim = 8, blocks = 13;

struct engine_case {
    const char* name;
    std::uint32_t tokens_per_block;
    std::uint32_t tp;
};

/// Tensors follow each other in memory, from `next` on.
void place(std::vector<kv_tensor>& tensors, std::uint64_t& next, kv_tensor x) {
    x.address = next;
    next += extents_of({x})->front().bytes;
    x.name = x.role + "." + std::to_string(x.layers.front());
    tensors.push_back(std::move(x));
}

std::vector<kv_tensor> tensors_of(const engine_case& engine) {
    const std::string name = engine.name;
    const std::int64_t tokens = engine.tokens_per_block;
    const std::int64_t own = std::max(1u, heads / engine.tp);
    // Blocks of other sizes hold as many tokens.
    const std::int64_t count = (blocks * 16 + tokens - 1) / tokens;
    std::vector<kv_tensor> result;
    std::uint64_t next = 1 << 20;
    const auto add = [&](const char* dims, std::vector<std::int64_t> shape, std::uint32_t layer,
                         const char* role = "") {
        kv_tensor x{.dims = dims, .shape = std::move(shape), .layers = {layer}, .role = role};
        x.heads = heads;
        if (name == "sglang")
            x.tokens_per_block = engine.tokens_per_block;
        if (x.dims.find("layer") != std::string::npos)
            x.layers = {0, 1, 2};
        place(result, next, std::move(x));
    };
    if (name == "cross-layer") {
        add("block layer kv token head dim", {count, layers, 2, tokens, own, head_dim}, 0);
    } else if (name == "trtllm") {
        add("block layer kv head token dim", {count, layers, 2, own, tokens, head_dim}, 0);
    } else {
        for (std::uint32_t layer = 0; layer < layers; ++layer) {
            if (name == "flash-attention") {
                add("kv block token head dim", {2, count, tokens, own, head_dim}, layer);
            } else if (name == "flashinfer") {
                add("block kv head token dim", {count, 2, own, tokens, head_dim}, layer);
            } else if (name == "packed") {
                add("block head token kv dim", {count, own, tokens, 2, head_dim}, layer);
            } else if (name == "packed-nhd") {
                add("block token head kv dim", {count, tokens, own, 2, head_dim}, layer);
            } else if (name == "kv-in-token") {
                add("block token kv head dim", {count, tokens, 2, own, head_dim}, layer);
            } else {
                add("token head dim", {count * tokens, own, head_dim}, layer, "key");
                add("token head dim", {count * tokens, own, head_dim}, layer, "value");
            }
        }
    }
    return result;
}

std::vector<tensor_rank> instance_of(const char* name, const engine_case& engine) {
    std::vector<tensor_rank> result;
    for (std::uint32_t rank = 0; rank < engine.tp; ++rank)
        result.emplace_back(name, parallelism{engine.tp, rank, 1, 0, 1, 0, false, {layers}},
                            tensors_of(engine));
    return result;
}

const std::vector<engine_case> engines = {
    {"flash-attention", 16, 1}, {"flash-attention", 32, 2}, {"flashinfer", 16, 2},
    {"flashinfer", 8, 4},       {"cross-layer", 16, 4},     {"cross-layer", 64, 1},
    {"sglang", 1, 1},           {"sglang", 16, 2},          {"sglang", 64, 8},
    {"trtllm", 32, 1},          {"trtllm", 64, 2},          {"trtllm", 16, 8},
    {"packed", 16, 2},          {"packed", 24, 1},          {"packed-nhd", 16, 4},
    {"kv-in-token", 16, 2}};

} // namespace

TEST_CASE("engine_layouts: K and V reach their places between any two engines") {
    std::mt19937_64 random{7};
    for (const auto& from : engines)
        for (const auto& to : engines) {
            CAPTURE(from.name);
            CAPTURE(from.tokens_per_block);
            CAPTURE(from.tp);
            CAPTURE(to.name);
            CAPTURE(to.tokens_per_block);
            CAPTURE(to.tp);
            auto context = instance_of("context", from);
            auto generation = instance_of("generation", to);
            CHECK(wrong_bytes_after_transfer(context, generation, 75, random) == 0);
        }
}

TEST_CASE(
    "engine_layouts: slots of one tensor are one pool with one view where K and V lie in them") {
    const auto trtllm = instance_of("x", {"trtllm", 32, 1});
    const auto& pages = trtllm.front().pages();
    REQUIRE(pages.pools.size() == 1);
    CHECK(pages.pools[0] == physical_pool{0, 0, 3 * 2 * 4 * 32 * 16, 3 * 2 * 4 * 32 * 16, 7});
    REQUIRE(pages.groups.size() == 1);
    REQUIRE(pages.groups[0].views.size() == 1);
    const auto& view = pages.groups[0].views[0];
    CHECK(view.roles == std::vector<std::string>{"key", "value"});
    CHECK(view.layout.kind == mapper_kind::hnd);
    CHECK(view.layout.element_type == "bf16");
    CHECK(view.layout.element_shape == std::vector<std::uint32_t>{head_dim});
    CHECK(view.layout.shard_unit_bytes == std::uint64_t{32 * 16});
    REQUIRE(view.entries.size() == 6);
    CHECK(view.entries[3] == buffer_entry{1, 3 * 2048, 2048});

    const auto flash = instance_of("x", {"flash-attention", 16, 1});
    CHECK(flash.front().pages().pools.size() == 6); // K and V of each layer are apart
    CHECK(flash.front().pages().groups[0].views.size() == 6);
    CHECK(flash.front().pages().groups[0].views[1].layout.kind == mapper_kind::nhd);

    const auto sglang = instance_of("x", {"sglang", 1, 1});
    CHECK(sglang.front().pages().groups[0].tokens_per_slot == 1u);
    CHECK(sglang.front().pages().pools[0].slot_count == 13 * 16);
}

TEST_CASE("engine_layouts: views of a tensor for each layer are the slots of the whole tensor") {
    std::vector<kv_tensor> tensors;
    constexpr std::int64_t buffer = 16 * heads * head_dim;
    for (std::uint32_t layer = 0; layer < layers; ++layer)
        tensors.push_back({.address = 4096 + layer * std::uint64_t{2 * buffer * 2},
                           .dims = "kv block token head dim",
                           .shape = {2, blocks, 16, heads, head_dim},
                           .strides = {buffer, layers * 2 * buffer, heads * head_dim, head_dim, 1},
                           .layers = {layer},
                           .heads = heads});
    const tensor_rank rank{"x", {1, 0, 1, 0, 1, 0, false, {layers}}, tensors};
    const auto whole = instance_of("x", {"cross-layer", 16, 1});
    CHECK(rank.pages() == whole.front().pages());
}

TEST_CASE("engine_layouts: V may lie before K in a slot, on one side or on both") {
    const auto instance = [](bool value_first) {
        constexpr std::int64_t buffer = 16 * heads * head_dim;
        std::vector<kv_tensor> tensors;
        for (bool value : {false, true})
            tensors.push_back(
                {.address = 4096 + (value == value_first ? 0 : buffer * std::uint64_t{2}),
                 .dims = "block token head dim",
                 .shape = {blocks, 16, heads, head_dim},
                 .strides = {2 * buffer, heads * head_dim, head_dim, 1},
                 .layers = {0},
                 .role = value ? "value" : "key",
                 .heads = heads});
        std::vector<tensor_rank> result;
        result.emplace_back("x", parallelism{1, 0, 1, 0, 1, 0, false, {1}}, tensors);
        CHECK(result.front().pages().pools.size() == 1);
        return result;
    };
    std::mt19937_64 random{11};
    for (bool from : {false, true})
        for (bool to : {false, true}) {
            auto context = instance(from);
            auto generation = instance(to);
            CHECK(wrong_bytes_after_transfer(context, generation, 75, random) == 0);
        }
}

TEST_CASE("engine_layouts: packed K and V travel as one where both sides have them alike") {
    auto context = instance_of("context", {"packed", 16, 1});
    auto generation = instance_of("generation", {"packed", 16, 1});
    const auto& pages = context.front().pages();
    REQUIRE(pages.pools.size() == layers);
    REQUIRE(pages.groups[0].views.size() == 2 * layers);
    const auto& value = pages.groups[0].views[1];
    CHECK(value.roles == std::vector<std::string>{"value"});
    CHECK(value.entries == std::vector<buffer_entry>{{0, 16, heads * 16 * 16}});
    CHECK(value.layout.row_stride_bytes == 32);
    CHECK(value.layout.head_stride_bytes == 16 * 32);
    std::mt19937_64 random{5};
    plan_cache cache;
    const auto plan =
        make_plan(context.front().info(), random_slice(context.front(), 64, random),
                  generation.front().info(), random_slice(generation.front(), 64, random), cache);
    REQUIRE_MESSAGE(plan, text_of(plan));
    CHECK(plan->fragments == 4 * layers); // a stretch for each block and layer
}

TEST_CASE("engine_layouts: K and V of different size in one tensor are two slices of it") {
    constexpr std::int64_t key_dim = 12, value_dim = 8, row = key_dim + value_dim;
    const auto instance = [](std::int64_t tokens, std::uint32_t tp, bool in_one_tensor) {
        const std::int64_t own = heads / tp;
        std::vector<kv_tensor> tensors;
        for (bool is_value : {false, true}) {
            kv_tensor x{.dims = "block token head dim",
                        .shape = {20, tokens, own, is_value ? value_dim : key_dim},
                        .layers = {0},
                        .role = is_value ? "value" : "key",
                        .heads = heads};
            x.address = is_value ? 1 << 20 : 4096;
            if (in_one_tensor) {
                x.strides = {tokens * own * row, own * row, row, 1};
                x.address = 4096 + (is_value ? key_dim * 2 : 0);
            }
            tensors.push_back(std::move(x));
        }
        std::vector<tensor_rank> result;
        for (std::uint32_t rank = 0; rank < tp; ++rank)
            result.emplace_back("x", parallelism{tp, rank, 1, 0, 1, 0, false, {1}}, tensors);
        return result;
    };
    std::mt19937_64 random{13};
    for (bool from : {false, true})
        for (bool to : {false, true})
            for (auto [source, target] : {std::pair{16, 16}, {16, 32}, {8, 12}}) {
                auto context = instance(source, 2, from);
                auto generation = instance(target, 4, to);
                CHECK(wrong_bytes_after_transfer(context, generation, 75, random) == 0);
            }
}

TEST_CASE(
    "engine_layouts: a row of a compressed cache stands for many tokens, in blocks of any size") {
    const auto instance = [](std::int64_t rows, std::uint32_t tp) {
        std::vector<tensor_rank> result;
        for (std::uint32_t rank = 0; rank < tp; ++rank)
            result.emplace_back("x", parallelism{tp, rank, 1, 0, 1, 0, false, {1}},
                                std::vector<kv_tensor>{{.address = 4096,
                                                        .dims = "block token dim",
                                                        .shape = {20, rows, 9},
                                                        .layers = {0},
                                                        .role = "compressed",
                                                        .tokens_per_row = 128}});
        return result;
    };
    CHECK(instance(2, 1).front().pages().groups[0].tokens_per_slot == 256u);
    std::mt19937_64 random{17};
    for (std::uint32_t prompt : {1, 127, 128, 129, 1000, 1024})
        for (auto [source, target] : {std::pair{2, 2}, {2, 1}, {1, 2}, {4, 6}}) {
            auto context = instance(source, 2);
            auto generation = instance(target, 1);
            CHECK(wrong_bytes_after_transfer(context, generation, prompt, random) == 0);
        }
}

TEST_CASE("engine_layouts: CP ranks that deal out tokens one by one, to none or to as many") {
    const auto instance = [](std::int64_t tokens, std::uint32_t tp, std::uint32_t cp) {
        std::vector<tensor_rank> result;
        for (std::uint32_t rank = 0; rank < tp * cp; ++rank)
            result.emplace_back(
                "x", parallelism{tp, rank / cp, 1, 0, cp, rank % cp, false, {1}},
                std::vector<kv_tensor>{{.address = 4096,
                                        .dims = "kv block token head dim",
                                        .shape = {2, 80, tokens, heads / tp, head_dim},
                                        .layers = {0},
                                        .heads = heads,
                                        .tokens_are_dealt = true}});
        return result;
    };
    std::mt19937_64 random{19};
    for (std::uint32_t prompt : {1, 7, 64, 75})
        for (auto [from, to] : {std::pair{2, 1}, {1, 2}, {3, 1}, {2, 2}, {3, 3}})
            for (auto [source, target] : {std::pair{16, 16}, {16, 8}, {1, 16}, {4, 1}, {8, 16}}) {
                CAPTURE(from);
                CAPTURE(to);
                CAPTURE(source);
                CAPTURE(target);
                auto context = instance(source, 2, from);
                auto generation = instance(target, 1, to);
                CHECK(wrong_bytes_after_transfer(context, generation, prompt, random) == 0);
            }
    // A rank with the wrong share, or none with the last.
    auto ranks = instance(16, 1, 2);
    std::vector<rank_info> infos{ranks[0].info(), ranks[1].info()};
    for (auto& view : infos[1].pages->groups[0].views)
        view.layout.token_of_row = 0;
    const auto receiver = instance(16, 1, 1);
    CHECK(contains(text_of(cohorts_of(receiver.front().info(), infos, 0)),
                   "token_of_row 0 of tokens_per_row 2 does not go with CP rank 0"));
    for (auto& info : infos) {
        info.pages->groups[0].tokens_per_slot = 64;
        for (auto& view : info.pages->groups[0].views) {
            view.layout.tokens_per_row = 4;
            view.layout.token_of_row = info.layout.cp_rank;
        }
    }
    CHECK(contains(text_of(cohorts_of(receiver.front().info(), infos, 0)),
                   "of each 4 tokens the context's CP ranks hold 2"));
}

TEST_CASE("engine_layouts: each beam is a group that lists its own slots of the same memory") {
    const auto instance = [](std::uint32_t tp, std::uint32_t beams) {
        std::vector<tensor_rank> result;
        for (std::uint32_t rank = 0; rank < tp; ++rank) {
            std::vector<kv_tensor> tensors;
            for (std::uint32_t beam = 0; beam < beams; ++beam)
                tensors.push_back({.address = 4096,
                                   .dims = "block kv head token dim",
                                   .shape = {20, 2, heads / tp, 16, head_dim},
                                   .layers = {0},
                                   .group = beam,
                                   .heads = heads});
            result.emplace_back("x", parallelism{tp, rank, 1, 0, 1, 0, false, {1}}, tensors);
        }
        return result;
    };
    std::mt19937_64 random{23};
    for (auto [from, to] : {std::pair{1, 3}, {3, 1}, {2, 3}, {3, 3}}) {
        auto context = instance(2, from);
        auto generation = instance(1, to);
        CHECK(generation.front().pages().pools.size() == 1);
        CHECK(wrong_bytes_after_transfer(context, generation, 75, random) == 0);
    }
    // The beams share all blocks but the one in which the prompt ends.
    auto context = instance(1, 1);
    auto generation = instance(1, 2);
    const auto source = random_slice(context.front(), 75, random);
    context.front().fill(source);
    const kv_slice target{{0, 75}, 75, {{0, {0, 1, 2, 3, 4}}, {4, {9}}}, true};
    transfer(context.front(), source, generation.front(), target);
    CHECK(generation.front().wrong_bytes(target) == 0);
}

TEST_CASE("engine_layouts: MLA latents with an indexer whose values and scales share a block") {
    const auto instance = [](std::int64_t tokens, std::uint32_t tp) {
        const std::int64_t count = 512 / tokens;
        std::vector<kv_tensor> tensors;
        std::uint64_t next = 4096;
        for (std::uint32_t layer = 0; layer < 2; ++layer) {
            place(tensors, next,
                  {.dims = "block token dim",
                   .shape = {count, tokens, 36},
                   .layers = {layer},
                   .role = "latent"});
            // Each block: `tokens` rows of 8 bytes, then `tokens` scales of 4 bytes.
            kv_tensor values{.address = next,
                             .dims = "block token dim",
                             .shape = {count, tokens, 8},
                             .strides = {tokens * 12, 8, 1},
                             .element_type = "torch.float8_e4m3fn",
                             .layers = {layer},
                             .role = "indexer"};
            kv_tensor scales{.address = next + tokens * 8,
                             .dims = "block token dim",
                             .shape = {count, tokens, 1},
                             .strides = {tokens * 3, 1, 1},
                             .element_type = "f32",
                             .layers = {layer},
                             .role = "indexer_scale"};
            tensors.push_back(values);
            tensors.push_back(scales);
            next += count * tokens * 12;
        }
        std::vector<tensor_rank> result;
        for (std::uint32_t rank = 0; rank < tp; ++rank)
            result.emplace_back("mla", parallelism{tp, rank, 1, 0, 1, 0, false, {2}}, tensors);
        return result;
    };
    std::mt19937_64 random{1};
    for (auto [source, target] : {std::pair{64, 64}, {64, 32}, {16, 64}, {1, 64}})
        for (auto [from, to] : {std::pair{1, 1}, {2, 4}, {4, 1}}) {
            auto context = instance(source, from);
            auto generation = instance(target, to);
            CHECK(wrong_bytes_after_transfer(context, generation, 201, random) == 0);
        }
    const auto one = instance(64, 1);
    CHECK(one.front().pages().pools.size() == 4); // values and scales share theirs
}

TEST_CASE("engine_layouts: attention and Mamba states in shared memory, any TP to any TP") {
    constexpr std::int64_t page = 4096; // elements of one byte
    const auto instance = [](std::uint32_t tp) {
        std::vector<kv_tensor> tensors;
        for (std::uint32_t layer = 0; layer < 2; ++layer) {
            const std::uint64_t raw = 1 << 16;
            const auto base = raw + layer * raw;
            const std::int64_t own = 8 / tp;
            tensors.push_back({.address = base,
                               .dims = "block kv token head dim",
                               .shape = {16, 2, 16, own, 4},
                               .strides = {page, 64 * own, 4 * own, 4, 1},
                               .element_type = "u8",
                               .layers = {layer},
                               .group = 0,
                               .heads = 8});
            // Layer 2 + l: convolution of 3 taps over x (16 channels), B and C (8 each), then the
            // states of 8 heads.
            const std::int64_t x = 16 / tp, b = 8 / tp, taps = 3;
            tensors.push_back(
                {.address = base,
                 .dims = "block dim inner",
                 .shape = {16, x + 2 * b, taps},
                 .strides = {page / 4, taps, 1},
                 .element_type = "f32",
                 .layers = {2 + layer},
                 .role = "conv",
                 .group = 1,
                 .heads = 8,
                 .sections = {static_cast<std::uint64_t>(x), static_cast<std::uint64_t>(b),
                              static_cast<std::uint64_t>(b)}});
            tensors.push_back({.address = base + static_cast<std::uint64_t>((x + 2 * b) * taps * 4),
                               .dims = "block head dim inner",
                               .shape = {16, own, 4, 6},
                               .strides = {page / 4, 24, 6, 1},
                               .element_type = "f32",
                               .layers = {2 + layer},
                               .role = "ssm",
                               .group = 1,
                               .heads = 8});
        }
        std::vector<tensor_rank> result;
        for (std::uint32_t rank = 0; rank < tp; ++rank)
            result.emplace_back("hybrid", parallelism{tp, rank, 1, 0, 1, 0, false, {4}}, tensors);
        return result;
    };
    std::mt19937_64 random{3};
    for (std::uint32_t from : {1, 2, 4, 8})
        for (std::uint32_t to : {1, 2, 4, 8}) {
            auto context = instance(from);
            auto generation = instance(to);
            CHECK(wrong_bytes_after_transfer(context, generation, 75, random) == 0);
            CHECK(context.front().pages().pools.size() == 2);
            CHECK(context.front().pages().groups.size() == 2);
        }
}
