// SPDX-License-Identifier: Apache-2.0
// The demo's engine: real tokens that depend on every shard, and not on how the cache is split.
#include "doctest/doctest.h"
#include "tools/engine/engine.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace kvferry::engine;

namespace {

constexpr std::string_view prompt =
    "The ferry crosses before dawn with the cache of the night, and nobody on the far bank asks "
    "who filled it.";
constexpr std::size_t new_tokens = 12;

// 5 layers: uneven over 2 and 3 stages. 4 KV heads under 8 query heads.
model_config test_config() {
    return {.layers = 5, .heads = 8, .kv_heads = 4, .head_dim = 8, .hidden = 32, .mlp_hidden = 48};
}

const model& test_model() {
    static const model instance(test_config());
    return instance;
}

struct side_shape {
    parallelism ranks;
    std::size_t tokens_per_block = 8;
    std::uint64_t slot_seed = 1;
    std::size_t slots = 40;
};

std::string text(const side_shape& shape) {
    return "tp " + std::to_string(shape.ranks.tp_size) + ", pp "
           + std::to_string(shape.ranks.pp_size) + ", block "
           + std::to_string(shape.tokens_per_block) + ", seed " + std::to_string(shape.slot_seed);
}

// An engine and the memory of its pools, filled with NaN first so that a stale read shows.
struct side {
    explicit side(const side_shape& shape, const model& weights = test_model())
        : geometry(geometry_of(weights.config(), shape.tokens_per_block)),
          host(weights, kv_cache(geometry, shape.ranks, attach(shape), shape.slot_seed)) {}

    std::vector<kv_shard> attach(const side_shape& shape) {
        auto shards = split(geometry, shape.ranks);
        for (auto& shard : shards) {
            pools.emplace_back(shard.slot_bytes / sizeof(float) * shape.slots, std::nanf(""));
            shard.attach(std::as_writable_bytes(std::span(pools.back())));
        }
        return shards;
    }

    kv_geometry geometry;
    std::vector<std::vector<float>> pools;
    engine host;
};

const std::initializer_list<side_shape> shapes{
    {{1, 1}, 8, 1},  {{2, 1}, 8, 2}, {{4, 1}, 4, 3},  {{8, 1}, 8, 4}, {{1, 2}, 16, 5},
    {{1, 5}, 32, 6}, {{2, 3}, 5, 7}, {{8, 2}, 16, 8}, {{4, 5}, 8, 9},
};

std::vector<token> bytes(std::string_view of) {
    std::vector<token> tokens;
    for (char byte : of) {
        tokens.push_back(static_cast<unsigned char>(byte));
    }
    return tokens;
}

// Copies row by row to every replica: the simplest possible transfer.
void move_prompt(const side& from, const sequence& source, const side& to, const sequence& target) {
    for (std::size_t layer = 0; layer < from.geometry.layers; ++layer) {
        for (auto kind : {kv_kind::key, kv_kind::value}) {
            for (std::size_t head = 0; head < from.geometry.kv_heads; ++head) {
                for (std::size_t at = 0; at < source.prompt_length(); ++at) {
                    const kv_row row{layer, kind, head, at};
                    const auto values = from.host.cache().row(source.blocks(), row, 0);
                    for (std::size_t r = 0; r < to.host.cache().replicas(); ++r) {
                        std::ranges::copy(values,
                                          to.host.cache().row(target.blocks(), row, r).begin());
                    }
                }
            }
        }
    }
}

// Logits of a new last token over a filled prompt; its own K and V go to room after the prompt.
std::vector<float> next_logits(const side& at, const sequence& request) {
    const token last = 'x';
    return test_model().forward(std::span(&last, 1), request.prompt_length(), at.host.cache(),
                                request.blocks());
}

template <class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "no error";
}

bool contains(std::string_view whole, std::string_view part) {
    return whole.find(part) != std::string_view::npos;
}

} // namespace

TEST_CASE("Engine: tokens do not depend on how the KV cache is split over ranks") {
    const auto expected = one_process_run(test_model(), prompt, new_tokens);
    CHECK(expected.tokens.size() == new_tokens);
    // A constant answer would prove nothing.
    CHECK(std::set(expected.tokens.begin(), expected.tokens.end()).size() > 3);
    for (const auto& shape : shapes) {
        CAPTURE(text(shape));
        side only(shape);
        auto request = only.host.start(prompt, new_tokens);
        const token first = only.host.prefill(request);
        CHECK(first == expected.first);
        CHECK(only.host.prompt_digest(request) == expected.prompt_digest);
        CHECK(only.host.decode(request, first, new_tokens) == expected.tokens);
        CHECK(only.host.prompt_digest(request) == expected.prompt_digest);
    }
}

TEST_CASE("Engine: logits are equal to the last bit for every split") {
    side whole(side_shape{{1, 1}});
    auto reference = whole.host.start(prompt, 1);
    whole.host.prefill(reference);
    const auto expected = next_logits(whole, reference);
    for (const auto& shape : shapes) {
        CAPTURE(text(shape));
        side cut(shape);
        auto request = cut.host.start(prompt, 1);
        cut.host.prefill(request);
        CHECK(next_logits(cut, request) == expected);
    }
}

TEST_CASE("Engine: a side that receives the KV decodes what one process would have") {
    const auto expected = one_process_run(test_model(), prompt, new_tokens);
    for (const auto& context_shape : {side_shape{{2, 2}, 8, 3}, side_shape{{8, 1}, 4, 4}}) {
        for (const auto& generation_shape : shapes) {
            CAPTURE(text(context_shape));
            CAPTURE(text(generation_shape));
            side context(context_shape);
            side generation(generation_shape);
            auto source = context.host.start(prompt);
            const token first = context.host.prefill(source);
            auto target = generation.host.admit(prompt.size(), new_tokens);
            move_prompt(context, source, generation, target);
            CHECK(generation.host.prompt_digest(target) == context.host.prompt_digest(source));
            CHECK(generation.host.decode(target, first, new_tokens) == expected.tokens);
        }
    }
}

TEST_CASE("Engine: tokens change with the prompt and with the weights' seed") {
    const auto plain = one_process_run(test_model(), prompt, new_tokens);
    std::string other(prompt);
    other[3] = '!';
    CHECK(one_process_run(test_model(), other, new_tokens).tokens != plain.tokens);
    auto config = test_config();
    config.seed = 2;
    CHECK(one_process_run(model(config), prompt, new_tokens).tokens != plain.tokens);
}

TEST_CASE("Engine: decoding step by step equals prefilling the longer prompt, to the last bit") {
    const auto tokens = bytes(prompt);
    REQUIRE(tokens.size() > 64);
    side at_once(side_shape{{2, 1}});
    side by_parts(side_shape{{2, 1}});
    auto a = at_once.host.admit(tokens.size(), 0);
    auto b = by_parts.host.admit(tokens.size(), 0);
    const auto expected = test_model().forward(tokens, 0, at_once.host.cache(), a.blocks());
    std::vector<float> logits;
    // Pieces of one, of a few, across block borders and across the passes' own limit.
    std::size_t done = 0;
    for (std::size_t piece : {1U, 1U, 3U, 5U, 13U, 1U, 70U, 1000U}) {
        piece = std::min(piece, tokens.size() - done);
        logits = test_model().forward(std::span(tokens).subspan(done, piece), done,
                                      by_parts.host.cache(), b.blocks());
        done += piece;
    }
    REQUIRE(done == tokens.size());
    CHECK(logits == expected);
    CHECK(by_parts.host.prompt_digest(b) == at_once.host.prompt_digest(a));
}

TEST_CASE("Engine: decode goes on where it stopped") {
    const auto expected = one_process_run(test_model(), prompt, new_tokens);
    side only(side_shape{{2, 2}});
    auto request = only.host.start(prompt, new_tokens);
    auto tokens = only.host.decode(request, only.host.prefill(request), 5);
    const auto rest = only.host.decode(request, tokens.back(), new_tokens - 5);
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    CHECK(tokens == expected.tokens);
    CHECK(request.length() == request.capacity());
}

TEST_CASE("Engine: a prompt prefilled in slices gives the same token and KV") {
    const auto expected = one_process_run(test_model(), prompt, 0);
    side only(side_shape{{4, 2}});
    auto request = only.host.start(prompt);
    only.host.prefill_until(request, 16);
    CHECK(request.length() == 16);
    only.host.prefill_until(request, prompt.size() - 1);
    CHECK(only.host.prefill(request) == expected.first);
    CHECK(only.host.prompt_digest(request) == expected.prompt_digest);
}

TEST_CASE("Engine: attention reads from the shards: zeroing any rank's pool changes the logits") {
    for (const auto& shape : shapes) {
        CAPTURE(text(shape));
        side only(shape);
        auto request = only.host.start(prompt, 1);
        only.host.prefill(request);
        const auto healthy = next_logits(only, request);
        for (std::size_t rank = 0; rank < only.pools.size(); ++rank) {
            CAPTURE(rank);
            const auto saved = only.pools[rank];
            std::ranges::fill(only.pools[rank], 0.0F);
            CHECK(next_logits(only, request) != healthy);
            only.pools[rank] = saved;
            CHECK(next_logits(only, request) == healthy);
        }
    }
}

TEST_CASE("Engine: attention reads K and V of every layer and head on every replica") {
    side only(side_shape{{8, 2}});
    auto request = only.host.start(prompt, 1);
    only.host.prefill(request);
    const auto healthy = next_logits(only, request);
    const auto& cache = only.host.cache();
    REQUIRE(cache.replicas() == 2);
    for (std::size_t layer = 0; layer < only.geometry.layers; ++layer) {
        for (auto kind : {kv_kind::key, kv_kind::value}) {
            for (std::size_t head = 0; head < only.geometry.kv_heads; ++head) {
                for (std::size_t replica = 0; replica < 2; ++replica) {
                    CAPTURE(layer);
                    CAPTURE(head);
                    CAPTURE(replica);
                    for (std::size_t block = 0; block < 3; ++block) {
                        std::ranges::fill(
                            cache.block_rows(request.blocks(), layer, kind, head, block, replica),
                            0.0F);
                    }
                    CHECK(next_logits(only, request) != healthy);
                    only.host.release(request);
                    request = only.host.start(prompt, 1);
                    only.host.prefill(request);
                }
            }
        }
    }
}

TEST_CASE("Engine: a replica that was not filled changes the digest") {
    const auto expected = one_process_run(test_model(), prompt, 0);
    side only(side_shape{{8, 1}});
    auto request = only.host.start(prompt);
    only.host.prefill(request);
    for (std::size_t rank = 0; rank < only.pools.size(); ++rank) {
        CAPTURE(rank);
        const auto saved = only.pools[rank];
        std::ranges::fill(only.pools[rank], 0.0F);
        CHECK(only.host.prompt_digest(request) != expected.prompt_digest);
        only.pools[rank] = saved;
    }
    CHECK(only.host.prompt_digest(request) == expected.prompt_digest);
}

TEST_CASE("Engine: a flipped bit of the KV cache changes the digest") {
    side only(side_shape{{8, 2}});
    auto request = only.host.start(prompt, 4);
    only.host.prefill(request);
    const auto& cache = only.host.cache();
    const auto healthy = only.host.prompt_digest(request);
    // Every layer, K and V, every head, both replicas; three positions, three bits.
    for (std::size_t layer = 0; layer < only.geometry.layers; ++layer) {
        for (auto kind : {kv_kind::key, kv_kind::value}) {
            for (std::size_t head = 0; head < only.geometry.kv_heads; ++head) {
                for (std::size_t replica = 0; replica < cache.replicas(); ++replica) {
                    for (std::size_t at : {std::size_t{0}, std::size_t{41}, prompt.size() - 1}) {
                        for (std::size_t bit : {0U, 31U, 8U * 32U - 1U}) {
                            const kv_row row{layer, kind, head, at};
                            corrupt(cache, request.blocks(), row, bit, replica);
                            CHECK(only.host.prompt_digest(request) != healthy);
                            corrupt(cache, request.blocks(), row, bit, replica);
                        }
                    }
                }
            }
        }
    }
    CHECK(only.host.prompt_digest(request) == healthy);
}

TEST_CASE("Engine: two flipped sign bits do not cancel in the digest") {
    side only(side_shape{{1, 1}});
    auto request = only.host.start(prompt);
    only.host.prefill(request);
    const auto healthy = only.host.prompt_digest(request);
    corrupt(only.host.cache(), request.blocks(), {0, kv_kind::key, 0, 0}, 63);
    corrupt(only.host.cache(), request.blocks(), {0, kv_kind::key, 0, 1}, 63);
    CHECK(only.host.prompt_digest(request) != healthy);
}

TEST_CASE("Engine: exchanging two blocks, or K with V, changes the digest") {
    side only(side_shape{{1, 1}});
    auto request = only.host.start(prompt);
    only.host.prefill(request);
    const auto healthy = only.host.prompt_digest(request);
    const auto& cache = only.host.cache();
    auto swapped = request.blocks();
    std::swap(swapped[0][0], swapped[0][1]);
    CHECK(digest(cache, swapped, prompt.size()) != healthy);
    std::ranges::swap_ranges(cache.block_rows(request.blocks(), 2, kv_kind::key, 1, 0, 0),
                             cache.block_rows(request.blocks(), 2, kv_kind::value, 1, 0, 0));
    CHECK(only.host.prompt_digest(request) != healthy);
}

TEST_CASE("Engine: KV after the prompt is not in the digest, an unfilled prompt is") {
    side only(side_shape{{1, 1}});
    auto request = only.host.start(prompt, 1);
    const auto unfilled = only.host.prompt_digest(request);
    only.host.prefill(request);
    const auto healthy = only.host.prompt_digest(request);
    CHECK(unfilled != healthy);
    corrupt(only.host.cache(), request.blocks(), {0, kv_kind::key, 0, prompt.size()}, 0);
    CHECK(only.host.prompt_digest(request) == healthy);
    CHECK(digest(only.host.cache(), request.blocks(), prompt.size() - 1) != healthy);
}

TEST_CASE("Engine: corrupt refuses a bit, a layer, a head or a token that is not there") {
    side only(side_shape{{1, 1}});
    auto request = only.host.start(prompt);
    const auto& cache = only.host.cache();
    const auto try_at = [&cache, &request](kv_row row, std::size_t bit, std::size_t replica) {
        corrupt(cache, request.blocks(), row, bit, replica);
    };
    CHECK_THROWS_AS(try_at({0, kv_kind::key, 0, 0}, 8 * 32, 0), std::invalid_argument);
    CHECK_THROWS_AS(try_at({5, kv_kind::key, 0, 0}, 0, 0), std::invalid_argument);
    CHECK_THROWS_AS(try_at({0, kv_kind::key, 4, 0}, 0, 0), std::invalid_argument);
    CHECK_THROWS_AS(try_at({0, kv_kind::key, 0, 8192}, 0, 0), std::invalid_argument);
    CHECK_THROWS_AS(try_at({0, kv_kind::key, 0, 0}, 0, 1), std::invalid_argument);
}

TEST_CASE("Engine: slots are the prompt's blocks in order, without the room for new tokens") {
    side only(side_shape{{2, 2}, 8, 1, 16});
    auto request = only.host.admit(17, 20);
    CHECK(request.prompt_length() == 17);
    CHECK(request.capacity() == 37);
    for (std::size_t rank = 0; rank < 4; ++rank) {
        const auto& all = request.blocks()[rank];
        CHECK(all.size() == 5);
        CHECK(std::ranges::equal(request.slots(rank), std::span(all).first(3)));
    }
    CHECK(request.blocks()[0] != request.blocks()[1]);
    only.host.release(request);
    CHECK(only.host.cache().free_blocks(3) == 16);
}

TEST_CASE("Engine: misuse is an error that says what is wrong, and leaves the engine usable") {
    side only(side_shape{{2, 1}, 8, 1, 16});
    CHECK(contains(message_of([&] { only.host.start(""); }), "prompt is empty"));
    CHECK(contains(message_of([&] { only.host.admit(0, 5); }), "prompt is empty"));
    auto request = only.host.start("abc", 2);
    CHECK(contains(message_of([&] { only.host.decode(request, 1, 1); }), "before the prompt"));
    CHECK(contains(message_of([&] { only.host.prefill_until(request, 3); }), "until position 3"));
    const token first = only.host.prefill(request);
    CHECK(contains(message_of([&] { only.host.prefill(request); }), "no prompt left"));
    CHECK(contains(message_of([&] { only.host.decode(request, 256, 1); }), "token 256"));
    CHECK(contains(message_of([&] { only.host.decode(request, first, 3); }), "exceed the 5"));
    CHECK(contains(message_of([&] { request.slots(2); }), "rank 2"));
    only.host.release(request);
    CHECK_THROWS_AS(only.host.decode(request, first, 1), std::invalid_argument);
    CHECK(contains(message_of([&] { only.host.admit(16 * 8, 1); }),
                   "KV pool of rank 0 is full: 17 slots asked, 16 of 16 free"));
    auto again = only.host.start("abc");
    CHECK(only.host.prefill(again) == first);
}

TEST_CASE("Engine: a cache that is not the model's is refused") {
    auto config = test_config();
    config.layers = 4;
    const model shallow(config);
    side deep(side_shape{{1, 1}});
    CHECK(contains(message_of([&] { engine(shallow, deep.host.cache()); }), "5 layers"));
    // 16 ranks duplicate 4 KV heads well, but 8 query heads do not spread over them.
    CHECK(contains(message_of([] {
                       side(side_shape{{16, 1}});
                   }),
                   "tp_size 16 does not divide 8 query heads"));
}
