// SPDX-License-Identifier: Apache-2.0
// Digests of pieces: both sides get the same digest for equal bytes, and another for any other
// bytes.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/plan/piece_digest.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <cstring>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t slots = 8;

cache_format format_of(std::uint32_t tokens_per_block) {
    cache_format result;
    result.layers = 2;
    result.kv_heads = 4;
    result.head_dim = 8;
    result.tokens_per_block = tokens_per_block;
    return result;
}

/// A rank with memory of its own, filled with different bytes.
struct rank_with_memory {
    rank_info info;
    std::vector<std::vector<std::uint8_t>> memory;
    std::vector<pool_base> pools;

    rank_with_memory(rank_info x, std::uint8_t seed) : info(std::move(x)) {
        for (const auto& pool : info.pages->pools) {
            auto& bytes = memory.emplace_back(pool.slot_stride_bytes * pool.slot_count);
            for (std::size_t i = 0; i < bytes.size(); ++i)
                bytes[i] = static_cast<std::uint8_t>(seed + i * 7 + (i >> 8));
            pools.push_back(
                {reinterpret_cast<std::uint64_t>(bytes.data()), pool.slot_stride_bytes, 0});
        }
    }
};

void copy(const copy_plan& plan, const rank_with_memory& from, rank_with_memory& to) {
    expand(plan, from.pools, to.pools, [](auto source, auto target, auto bytes) {
        std::memcpy(reinterpret_cast<void*>(target), reinterpret_cast<const void*>(source), bytes);
    });
}

} // namespace

TEST_CASE("piece digest: the receiver's plan without slot numbers gives the writer's digest") {
    plan_cache plans;
    for (const std::uint32_t target_tokens : {8u, 4u, 12u})
        for (const std::uint32_t writer_rank : {0u, 1u}) {
            CAPTURE(target_tokens);
            CAPTURE(writer_rank);
            const rank_with_memory writer{
                make_instance("ctx", {2}, format_of(8), slots)[writer_rank], 1};
            rank_with_memory receiver{
                make_instance("gen", {}, format_of(target_tokens), slots).front(), 2};
            // 20 tokens in two slices; the receiver already has a prefix.
            const kv_slice target{{0, 20}, 20, {{1, {5, 3, 0, 1}}}, true};
            for (const bool last : {false, true}) {
                const kv_slice source{
                    last ? token_range{8, 20} : token_range{0, 8}, 20, {{0, {6, 2, 4}}}, last};
                const auto plan = make_plan(writer.info, source, receiver.info, target, plans);
                REQUIRE(plan);
                copy(*plan, writer, receiver);
                const auto expected = plan_of_piece(writer.info, source.tokens, source.layers, last,
                                                    receiver.info, target, plans);
                REQUIRE(expected);
                CHECK(expected->bytes == plan->bytes);
                const auto digest = digest_of_sources(*plan, writer.pools);
                CHECK(digest_of_targets(*expected, receiver.pools) == digest);
                if (plan->bytes == 0)
                    continue;
                // One flipped bit anywhere in the written bytes.
                std::uint64_t somewhere = 0;
                expand(*plan, writer.pools, receiver.pools,
                       [&](auto, auto to, auto bytes) { somewhere = to + bytes / 2; });
                *reinterpret_cast<std::uint8_t*>(somewhere) ^= 1;
                CHECK(digest_of_targets(*expected, receiver.pools) != digest);
            }
        }
}

TEST_CASE("piece digest: blocks that were exchanged do not cancel out") {
    plan_cache plans;
    const rank_with_memory writer{make_instance("ctx", {}, format_of(8), slots).front(), 1};
    rank_with_memory receiver{make_instance("gen", {}, format_of(8), slots).front(), 2};
    const kv_slice source{{0, 16}, 16, {{0, {6, 2}}}, true};
    const kv_slice target{{0, 16}, 16, {{0, {5, 3}}}, true};
    const kv_slice exchanged{{0, 16}, 16, {{0, {3, 5}}}, true};
    copy(*make_plan(writer.info, source, receiver.info, exchanged, plans), writer, receiver);
    const auto plan = make_plan(writer.info, source, receiver.info, target, plans);
    const auto expected = plan_of_piece(writer.info, source.tokens, source.layers, true,
                                        receiver.info, target, plans);
    CHECK(digest_of_targets(*expected, receiver.pools) != digest_of_sources(*plan, writer.pools));
}

TEST_CASE("piece digest: none where only the writer knows which blocks it had") {
    const auto plain = make_instance("ctx", {}, format_of(8), slots).front();
    auto windowed = plain;
    windowed.pages->groups[0].live_token_window = 16;
    CHECK(can_be_checked(plain, plain));
    CHECK(can_be_checked(plain, windowed));
    CHECK(can_be_checked(windowed, plain));
    CHECK_FALSE(can_be_checked(windowed, windowed));
    CHECK_FALSE(can_be_checked(make_instance("ctx", {1, 1, 2}, format_of(8), slots)[1], plain));
}
