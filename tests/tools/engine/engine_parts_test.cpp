// SPDX-License-Identifier: Apache-2.0
// The parts of the demo's engine against small oracles: arithmetic, layout, allocator, sizes.
#include "doctest/doctest.h"
#include "tools/engine/attention.hpp"
#include "tools/engine/config.hpp"
#include "tools/engine/kv_cache.hpp"
#include "tools/engine/math.hpp"
#include "tools/engine/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

using namespace kvferry::engine;
using doctest::Approx;

namespace {

std::vector<float> numbers(std::size_t count, std::uint64_t seed) {
    splitmix64 source(seed);
    std::vector<float> values(count);
    std::ranges::generate(values, [&source] { return source.next_symmetric(); });
    return values;
}

} // namespace

TEST_CASE("Random: splitmix64 gives its published sequence") {
    splitmix64 source(1234567);
    CHECK(source.next() == 6457827717110365317U);
    CHECK(source.next() == 3203168211198807973U);
    CHECK(source.next() == 9817491932198370423U);
}

TEST_CASE("Math: RMSNorm divides by the root of the mean square and weighs") {
    const std::vector<float> x{3.0F, 4.0F};
    std::vector<float> out(2);
    rms_norm(x, std::vector<float>{1.0F, 2.0F}, out);
    CHECK(out[0] == Approx(3.0 / std::sqrt(12.5)));
    CHECK(out[1] == Approx(2.0 * 4.0 / std::sqrt(12.5)));
    rms_norm(std::vector<float>{0.0F, 0.0F}, std::vector<float>{1.0F, 1.0F}, out);
    CHECK(out == std::vector<float>{0.0F, 0.0F});
}

TEST_CASE("Math: softmax gives shares of one, and large values do not overflow") {
    std::vector<float> x{0.0F, std::log(2.0F), std::log(5.0F)};
    softmax(x);
    CHECK(x[0] == Approx(1.0 / 8.0));
    CHECK(x[1] == Approx(2.0 / 8.0));
    CHECK(x[2] == Approx(5.0 / 8.0));
    std::vector<float> large{1000.0F, 1000.0F};
    softmax(large);
    CHECK(large == std::vector<float>{0.5F, 0.5F});
}

TEST_CASE("Math: rotary positions turn the pairs (i, i + head_dim / 2)") {
    const rotary turns(4, 100.0F); // frequencies 1 and 0.1
    std::vector<float> angles(4);
    turns.angles(2, angles);
    std::vector<float> head{1.0F, 0.0F, 0.0F, 1.0F};
    rotary::turn(head, angles);
    CHECK(head[0] == Approx(std::cos(2.0)));
    CHECK(head[2] == Approx(std::sin(2.0)));
    CHECK(head[1] == Approx(-std::sin(0.2)));
    CHECK(head[3] == Approx(std::cos(0.2)));
    turns.angles(0, angles);
    const auto before = head;
    rotary::turn(head, angles);
    CHECK(head == before);
}

TEST_CASE("Math: rotary scores depend on the distance of two positions only") {
    const rotary turns(8, 10000.0F);
    const auto score = [&turns](std::size_t query_at, std::size_t key_at) {
        auto query = numbers(8, 1);
        auto key = numbers(8, 2);
        std::vector<float> angles(8);
        turns.angles(query_at, angles);
        rotary::turn(query, angles);
        turns.angles(key_at, angles);
        rotary::turn(key, angles);
        return dot(query, key);
    };
    CHECK(score(7, 3) == Approx(score(1004, 1000)).epsilon(1e-4));
    CHECK(score(7, 3) != Approx(score(9, 3)).epsilon(1e-2));
}

TEST_CASE("Math: SwiGLU, dot and argmax") {
    std::vector<float> gate{0.0F, 1.0F, -1.0F};
    swiglu(gate, std::vector<float>{5.0F, 2.0F, 3.0F});
    CHECK(gate[0] == 0.0F);
    CHECK(gate[1] == Approx(2.0 * 0.7310586));
    CHECK(gate[2] == Approx(-3.0 * 0.2689414));
    // 1^2 + ... + 19^2, exact in floats: two vectors and a tail.
    std::vector<float> counted(19);
    for (std::size_t i = 0; i < counted.size(); ++i) {
        counted[i] = static_cast<float>(i + 1);
    }
    CHECK(dot(counted, counted) == 2470.0F);
    CHECK(argmax(std::vector<float>{1.0F, 3.0F, 2.0F, 3.0F}) == 1);
}

TEST_CASE("Math: a matrix gives plain sums, whatever rows stand beside it") {
    constexpr std::size_t out = 19;
    constexpr std::size_t in = 13;
    constexpr std::size_t rows = 7;
    const auto weights = numbers(out * in, 3);
    const auto x = numbers(rows * in, 4);
    matrix layer(out, in);
    for (std::size_t o = 0; o < out; ++o) {
        for (std::size_t i = 0; i < in; ++i) {
            layer.set(o, i, weights[o * in + i]);
        }
    }
    std::vector<float> y(rows * out);
    layer.apply(x, y);
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t o = 0; o < out; ++o) {
            double sum = 0.0;
            for (std::size_t i = 0; i < in; ++i) {
                sum += static_cast<double>(x[row * in + i]) * weights[o * in + i];
            }
            CHECK(y[row * out + o] == Approx(sum).epsilon(1e-5));
        }
        std::vector<float> alone(out);
        layer.apply(std::span(x).subspan(row * in, in), alone);
        CHECK(std::ranges::equal(alone, std::span(y).subspan(row * out, out)));
    }
}

TEST_CASE("Attention: equals the textbook formula over scattered blocks of the right head") {
    const kv_geometry geometry{.layers = 2, .kv_heads = 2, .head_dim = 6, .tokens_per_block = 4};
    const parallelism ranks{2, 2};
    auto shards = split(geometry, ranks);
    std::vector<std::vector<float>> pools;
    for (auto& shard : shards) {
        pools.push_back(numbers(shard.slot_bytes / sizeof(float) * 8, pools.size() + 10));
        shard.attach(std::as_writable_bytes(std::span(pools.back())));
    }
    kv_cache cache(geometry, ranks, shards, 5);
    const auto table = cache.allocate(11);
    const auto query = numbers(6, 6);
    for (std::size_t positions : {1U, 4U, 11U}) {
        std::vector<float> scores;
        std::vector<float> out(6);
        attend(cache, table, {.layer = 1, .head = 1, .replica = 0}, positions, query, scores, out);

        // Rank 3 holds layer 1, head 1 alone: a slot is K [4][6], then V [4][6].
        const auto at = [&](std::size_t token, std::size_t kind, std::size_t dim) -> double {
            return pools[3][table[3][token / 4] * 48 + kind * 24 + token % 4 * 6 + dim];
        };
        std::vector<double> shares(positions);
        double total = 0.0;
        for (std::size_t t = 0; t < positions; ++t) {
            double score = 0.0;
            for (std::size_t d = 0; d < 6; ++d) {
                score += query[d] * at(t, 0, d);
            }
            shares[t] = std::exp(score / std::sqrt(6.0));
            total += shares[t];
        }
        for (std::size_t d = 0; d < 6; ++d) {
            double expected = 0.0;
            for (std::size_t t = 0; t < positions; ++t) {
                expected += shares[t] / total * at(t, 1, d);
            }
            CHECK(out[d] == Approx(expected).epsilon(1e-4));
        }
    }
}

TEST_CASE("Layout: the first stages take the layers that are left over, heads are cut evenly") {
    const auto shards = split({.layers = 7, .kv_heads = 4, .head_dim = 2, .tokens_per_block = 3},
                              {.tp_size = 2, .pp_size = 4});
    REQUIRE(shards.size() == 8);
    const std::vector<std::size_t> first_layers{0, 0, 2, 2, 4, 4, 6, 6};
    const std::vector<std::size_t> layer_counts{2, 2, 2, 2, 2, 2, 1, 1};
    for (std::size_t rank = 0; rank < 8; ++rank) {
        CHECK(shards[rank].first_layer == first_layers[rank]);
        CHECK(shards[rank].layer_count == layer_counts[rank]);
        CHECK(shards[rank].first_head == rank % 2 * 2);
        CHECK(shards[rank].head_count == 2);
        CHECK(shards[rank].slot_bytes == layer_counts[rank] * 2 * 2 * 3 * 2 * 4);
    }
}

TEST_CASE("Layout: more ranks than KV heads duplicate each head on neighbours") {
    const auto shards = split({.layers = 1, .kv_heads = 2, .head_dim = 2, .tokens_per_block = 1},
                              {.tp_size = 8, .pp_size = 1});
    REQUIRE(shards.size() == 8);
    for (std::size_t rank = 0; rank < 8; ++rank) {
        CHECK(shards[rank].first_head == rank / 4);
        CHECK(shards[rank].head_count == 1);
    }
}

TEST_CASE("Layout: sizes that do not divide are refused with both values") {
    const kv_geometry geometry{.layers = 2, .kv_heads = 4, .head_dim = 2, .tokens_per_block = 1};
    CHECK_THROWS_WITH_AS(split(geometry, {3, 1}),
                         "KV cache: tp_size 3 neither divides kv_heads 4 nor is a multiple of it",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(split(geometry, {1, 3}),
                         "KV cache: pp_size 3 leaves a stage without a layer (2 layers)",
                         std::invalid_argument);
    CHECK_THROWS_AS(split(geometry, {0, 1}), std::invalid_argument);
    CHECK_THROWS_AS(split({.layers = 2, .kv_heads = 4, .head_dim = 2}, {1, 1}),
                    std::invalid_argument);
}

TEST_CASE("Cache: every row is a place of its own, at the HND offset of its slot") {
    const kv_geometry geometry{.layers = 5, .kv_heads = 4, .head_dim = 2, .tokens_per_block = 3};
    const parallelism ranks{2, 2};
    auto shards = split(geometry, ranks);
    std::vector<std::vector<float>> pools;
    for (auto& shard : shards) {
        pools.emplace_back(shard.slot_bytes / sizeof(float) * 6);
        shard.attach(std::as_writable_bytes(std::span(pools.back())));
    }
    kv_cache cache(geometry, ranks, shards, 9);
    const auto table = cache.allocate(10);
    std::set<const float*> seen;
    for (std::size_t layer = 0; layer < 5; ++layer) {
        for (std::size_t kind = 0; kind < 2; ++kind) {
            for (std::size_t head = 0; head < 4; ++head) {
                for (std::size_t token = 0; token < 10; ++token) {
                    const auto row =
                        cache.row(table, {layer, static_cast<kv_kind>(kind), head, token}, 0);
                    // 3 layers on ranks 0 and 1, 2 layers on ranks 2 and 3; 2 heads each.
                    const std::size_t stage = layer < 3 ? 0 : 1;
                    const std::size_t rank = stage * 2 + head / 2;
                    const std::size_t layers = stage == 0 ? 3 : 2;
                    const std::size_t offset =
                        (((layer - stage * 3) * 2 + kind) * 2 + head % 2) * 6 + token % 3 * 2;
                    const std::size_t slot = table[rank][token / 3];
                    CHECK(row.data() == pools[rank].data() + slot * layers * 24 + offset);
                    CHECK(row.size() == 2);
                    CHECK(seen.insert(row.data()).second);
                }
            }
        }
    }
}

TEST_CASE("Cache: memory or shards that do not fit are refused") {
    const kv_geometry geometry{.layers = 1, .kv_heads = 1, .head_dim = 2, .tokens_per_block = 2};
    std::vector<float> memory(8);
    const auto bytes = std::as_writable_bytes(std::span(memory));
    auto shards = split(geometry, {});
    CHECK_THROWS_AS(kv_cache(geometry, {}, shards, 1), std::invalid_argument);
    CHECK_THROWS_WITH_AS(shards[0].attach(bytes.first(31)),
                         "KV pool: 31 bytes do not hold one slot of 32", std::invalid_argument);
    CHECK_THROWS_AS(shards[0].attach(bytes.subspan(1)), std::invalid_argument);
    shards[0].attach(bytes);
    CHECK_THROWS_AS(kv_cache(geometry, {1, 2}, shards, 1), std::invalid_argument);
    shards[0].slot_count = 2;
    CHECK_THROWS_AS(kv_cache(geometry, {}, shards, 1), std::invalid_argument);
    shards[0].slot_count = 1;
    CHECK_NOTHROW(kv_cache(geometry, {}, shards, 1));
}

TEST_CASE("Cache: a request gets blocks on all ranks or on none") {
    const kv_geometry geometry{.layers = 2, .kv_heads = 1, .head_dim = 2, .tokens_per_block = 4};
    auto shards = split(geometry, {1, 2});
    std::vector<float> large(16 * 8);
    std::vector<float> small(16 * 3);
    shards[0].attach(std::as_writable_bytes(std::span(large)));
    shards[1].attach(std::as_writable_bytes(std::span(small)));
    kv_cache cache(geometry, {1, 2}, shards, 1);
    CHECK_THROWS_WITH_AS(cache.allocate(13),
                         "KV pool of rank 1 is full: 4 slots asked, 3 of 3 free",
                         std::runtime_error);
    CHECK(cache.free_blocks(0) == 8);
    auto table = cache.allocate(12);
    CHECK(cache.free_blocks(0) == 5);
    CHECK(cache.free_blocks(1) == 0);
    auto copy = table;
    cache.release(table);
    CHECK(table.empty());
    CHECK(cache.free_blocks(1) == 3);
    CHECK_THROWS_AS(cache.release(copy), std::invalid_argument);
}

TEST_CASE("Allocator: slots are scattered, differ between ranks, and repeat for the same seed") {
    block_allocator a("a", 64, 1);
    block_allocator same("same", 64, 1);
    block_allocator other("other", 64, 2);
    const auto slots = a.allocate(64);
    CHECK(same.allocate(64) == slots);
    CHECK(other.allocate(64) != slots);
    CHECK(std::set(slots.begin(), slots.end()).size() == 64);
    CHECK(*std::ranges::max_element(slots) == 63);
    std::size_t neighbours = 0;
    for (std::size_t i = 1; i < slots.size(); ++i) {
        neighbours += slots[i] == slots[i - 1] + 1 ? 1 : 0;
    }
    CHECK(neighbours < 6);
}

TEST_CASE("Allocator: a full pool is an error with its sizes and takes nothing") {
    block_allocator pool("rank 3", 4, 1);
    const auto first = pool.allocate(3);
    CHECK_THROWS_WITH_AS(pool.allocate(2), "KV pool of rank 3 is full: 2 slots asked, 1 of 4 free",
                         std::runtime_error);
    CHECK(pool.free_count() == 1);
    pool.release(first);
    CHECK(pool.allocate(4).size() == 4);
}

TEST_CASE("Allocator: a slot that is not in use cannot be released") {
    block_allocator pool("rank 0", 4, 1);
    const auto slots = pool.allocate(2);
    const std::vector<std::uint32_t> twice{slots[0], slots[0]};
    CHECK_THROWS_AS(pool.release(twice), std::invalid_argument);
    CHECK_THROWS_AS(pool.release(std::vector<std::uint32_t>{4}), std::invalid_argument);
    CHECK(pool.free_count() == 2);
    pool.release(slots);
    CHECK_THROWS_AS(pool.release(slots), std::invalid_argument);
}

TEST_CASE("Config: every named size is legal, an unknown name lists them") {
    for (auto name : preset_names()) {
        CAPTURE(name);
        CHECK_NOTHROW(validate(preset(name)));
    }
    CHECK_THROWS_WITH_AS(preset("huge"), "model: no size named 'huge'; known: tiny, small, medium",
                         std::invalid_argument);
}

TEST_CASE("Config: a field that is wrong is named") {
    const auto error_of = [](auto change) -> std::string {
        auto config = preset("tiny");
        change(config);
        try {
            validate(config);
        } catch (const std::invalid_argument& error) {
            return error.what();
        }
        return "no error";
    };
    CHECK(error_of([](auto& c) { c.layers = 0; }) == "model: layers is 0, must be at least 1");
    CHECK(error_of([](auto& c) { c.vocab = 0; }) == "model: vocab is 0, must be at least 1");
    CHECK(error_of([](auto& c) { c.kv_heads = 3; })
          == "model: heads 8 is not a multiple of kv_heads 3");
    CHECK(error_of([](auto& c) { c.head_dim = 7; })
          == "model: head_dim 7 is odd; rotary positions need pairs");
    CHECK(error_of([](auto& c) { c.rope_theta = -1.0F; }).starts_with("model: rope_theta -1"));
}
