// SPDX-License-Identifier: Apache-2.0
// The digest of a plan: the same for every split and on both sides, another one for every flipped
// bit, and it tells where.
#include "tests/support/random_plan.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/planner/plan/piece_digest.hpp"
#include "transport/planner/plan/plan_expand.hpp"
#include "transport/planner/plan/plan_split.hpp"
#include "transport/planner/plan/word_sums.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

std::uint64_t address(const std::vector<std::byte>& x) {
    return reinterpret_cast<std::uint64_t>(x.data());
}

/// A plan with its memory; copied.
struct copied_plan {
    plan_sample sample;
    std::vector<std::byte> source;
    std::vector<std::byte> target;
    copy_job job;

    explicit copied_plan(plan_sample x)
        : sample(std::move(x)), source(random_bytes(sample.source_bytes, 1)),
          target(random_bytes(sample.target_bytes, 2)),
          job(sample.job(address(source), address(target))) {
        copy_now(job);
    }
    plan_digest read() const { return sums_of_sources(*job.plan, job.source_pools); }
    plan_digest arrived() const { return sums_of_targets(*job.plan, job.target_pools); }
};

} // namespace

TEST_CASE("word_sums: however wide the processor adds, a stretch has the sum of its words") {
    const auto bytes = random_bytes(1000, 3);
    for (std::size_t offset = 0; offset < 9; ++offset)
        for (std::size_t count = 0; count < 400; ++count) {
            std::uint64_t wanted = 0;
            for (std::size_t word = 0; word < words_of(count); ++word) {
                std::uint64_t value = 0;
                std::memcpy(&value, bytes.data() + offset + 8 * word,
                            std::min<std::size_t>(8, count - 8 * word));
                wanted += mix_word(value, key_of(5, 7 + word));
            }
            REQUIRE(sum_of_words(bytes.data() + offset, count, key_of(5, 7)) == wanted);
        }
}

TEST_CASE("word_sums: both sides of a plan agree, whatever its stretches, and so do its shares in "
          "any order") {
    for (std::uint32_t seed = 1; seed <= 40; ++seed) {
        CAPTURE(seed);
        const copied_plan x{random_plans{seed}.next()};
        const auto whole = x.read();
        CHECK(whole == x.arrived());
        CHECK(whole.parts.size() <= 2 * digest_parts_max);
        auto shares = split(*x.job.plan, 1 + seed % 5);
        std::vector<std::uint64_t> before;
        std::uint64_t pairs = 0;
        for (const auto& share : shares) {
            before.push_back(pairs);
            pairs += pairs_of(share);
        }
        CHECK(pairs == pairs_of(*x.job.plan));
        plan_digest sum;
        for (std::size_t next = shares.size(); next-- > 0;) {
            word_sums of_share{{before[next], pairs}};
            auto job = x.job;
            job.plan = std::make_shared<const copy_plan>(shares[next]);
            plan_cursor cursor;
            std::mt19937 random{seed};
            for (;;) {
                const auto pair = cursor.pair();
                const auto word = cursor.word();
                const auto stretch = cursor.next(job, 8 * (1 + random() % 20));
                if (!stretch)
                    break;
                of_share.add(pair, word, reinterpret_cast<const void*>(stretch->source_address),
                             stretch->bytes);
            }
            sum += of_share.value();
        }
        CHECK(sum == whole);
    }
}

TEST_CASE("word_sums: every single bit that flips is found, and its pair of slots is named") {
    copied_plan x{shuffled_fragments(40, 48)};
    const auto read = x.read();
    const auto pairs = pairs_of(*x.job.plan);
    REQUIRE(pairs == 40);
    std::uint64_t pair = 0;
    for (const auto& each : x.job.plan->parts.front().slots) {
        const auto& pool = x.job.target_pools.front();
        auto* at = reinterpret_cast<unsigned char*>(pool.slot0_address
                                                    + each.target * pool.slot_stride_bytes);
        for (int bit = 0; bit < 48 * 8; ++bit) {
            at[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
            const auto arrived = x.arrived();
            REQUIRE(arrived.sum != read.sum);
            const auto where = first_difference(read, arrived, pairs);
            REQUIRE(where.first == pair);
            REQUIRE(where.end == pair + 1);
            at[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
        }
        ++pair;
    }
}

TEST_CASE(
    "word_sums: blocks or words that have changed places are found; several wrong pairs of one "
    "run are told as that run") {
    copied_plan x{shuffled_fragments(64, 64)};
    const auto read = x.read();
    const auto& pool = x.job.target_pools.front();
    const auto& slots = x.job.plan->parts.front().slots;
    const auto at = [&](std::size_t pair) {
        return reinterpret_cast<unsigned char*>(pool.slot0_address
                                                + slots[pair].target * pool.slot_stride_bytes);
    };
    SUBCASE("words of a block") {
        std::swap_ranges(at(9), at(9) + 8, at(9) + 32);
        CHECK(first_difference(read, x.arrived(), 64).first == 9);
    }
    SUBCASE("blocks of two runs") {
        std::swap_ranges(at(9), at(9) + 64, at(60));
        const auto where = first_difference(read, x.arrived(), 64);
        CHECK(where.first == 9);
        CHECK(where.end == 10);
    }
    SUBCASE("blocks of one run") {
        std::swap_ranges(at(8), at(8) + 64, at(10));
        const auto where = first_difference(read, x.arrived(), 64);
        CHECK(where.first == 8);
        CHECK(where.end == 12);
    }
    CHECK(x.arrived().sum != read.sum);
}

TEST_CASE("word_sums: random damage is not missed") {
    std::mt19937_64 random{5};
    auto bytes = random_bytes(4096, 6);
    const auto sum = sum_of_words(bytes.data(), bytes.size(), 1);
    for (int round = 0; round < 20000; ++round) {
        auto damaged = bytes;
        for (auto left = 1 + random() % 20; left > 0; --left)
            damaged[random() % damaged.size()] = static_cast<std::byte>(random());
        if (damaged != bytes)
            REQUIRE(sum_of_words(damaged.data(), damaged.size(), 1) != sum);
    }
}
