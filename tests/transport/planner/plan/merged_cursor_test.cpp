// SPDX-License-Identifier: Apache-2.0
// Neighbouring stretches of a plan go out as one piece, but never as a longer one than was asked
// for.
#include "transport/planner/plan/merged_cursor.hpp"

#include <doctest/doctest.h>

#include <map>

using namespace kvferry;

namespace {

copy_job job_of(std::vector<run> runs, std::vector<slot_pair> slots, std::uint64_t source_stride,
                std::uint64_t target_stride) {
    auto layout = std::make_shared<copy_template>();
    layout->runs = std::move(runs);
    auto plan = std::make_shared<copy_plan>();
    plan->parts.push_back({0, 0, layout, std::move(slots)});
    return {plan, {{10000, source_stride, 0}}, {{50000, target_stride, 1}}, {}};
}

std::vector<plan_stretch> all(const copy_job& job, std::uint64_t bytes_max) {
    merged_cursor cursor;
    std::vector<plan_stretch> result;
    std::uint64_t bytes = 0;
    while (auto next = cursor.next(job, bytes_max)) {
        CHECK(next->bytes > 0);
        CHECK(next->bytes <= bytes_max);
        bytes += next->bytes;
        CHECK(cursor.bytes() == bytes);
        result.push_back(*next);
    }
    return result;
}

/// For each target byte its source byte, found in the simplest way.
std::map<std::uint64_t, std::uint64_t> bytes_of(const std::vector<plan_stretch>& stretches) {
    std::map<std::uint64_t, std::uint64_t> result;
    for (const auto& x : stretches)
        for (std::uint64_t i = 0; i < x.bytes; ++i)
            CHECK(result.emplace(x.target_address + i, x.source_address + i).second);
    return result;
}

} // namespace

TEST_CASE("merged_cursor: slots that follow each other on both sides go out as one") {
    const auto job = job_of({{0, 0, 25, 4, 25, 25}}, {{0, 3}, {1, 4}, {2, 5}}, 100, 100);
    const auto merged = all(job, 1000);
    REQUIRE(merged.size() == 1);
    CHECK(merged[0] == plan_stretch{10000, 50300, 300, 0, 1});
}

TEST_CASE("merged_cursor: a gap on either side ends a piece") {
    CHECK(all(job_of({{0, 0, 25, 4, 25, 26}}, {{0, 0}}, 100, 200), 1000).size() == 4);
    CHECK(all(job_of({{0, 0, 25, 4, 26, 25}}, {{0, 0}}, 200, 100), 1000).size() == 4);
    CHECK(all(job_of({{0, 0, 100, 1, 0, 0}}, {{0, 1}, {1, 0}}, 100, 100), 1000).size() == 2);
}

TEST_CASE("merged_cursor: every byte goes out once whatever the longest piece is") {
    const auto job = job_of({{0, 8, 25, 3, 25, 25}, {75, 90, 10, 2, 12, 10}},
                            {{0, 3}, {1, 4}, {5, 9}, {4, 0}}, 100, 128);
    std::vector<plan_stretch> plain;
    plan_cursor cursor;
    while (auto next = cursor.next(job, 1 << 20))
        plain.push_back(*next);
    for (std::uint64_t bytes_max : {1u, 7u, 25u, 26u, 64u, 1000u}) {
        CAPTURE(bytes_max);
        CHECK(bytes_of(all(job, bytes_max)) == bytes_of(plain));
    }
    for (std::uint32_t seed = 1; seed <= 20; ++seed) { // the limit changes with every piece
        CAPTURE(seed);
        merged_cursor changing;
        std::vector<plan_stretch> pieces;
        for (std::uint64_t bytes_max = seed;; bytes_max = bytes_max * 7 % 61 + 1) {
            auto next = changing.next(job, bytes_max);
            if (!next)
                break;
            CHECK(next->bytes <= bytes_max);
            pieces.push_back(*next);
        }
        CHECK(bytes_of(pieces) == bytes_of(plain));
    }
}
