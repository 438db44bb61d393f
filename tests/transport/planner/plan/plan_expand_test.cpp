// SPDX-License-Identifier: Apache-2.0
// The stretches of a plan: all at once and in bounded pieces.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/plan/plan_expand.hpp"

using namespace kvferry;

namespace {

/// Two parts: strided runs over two pools with different strides, and a part without slots.
copy_job some_job() {
    const auto first = std::make_shared<const copy_template>(
        copy_template{{{4, 0, 6, 2, 10, 6}, {40, 30, 3, 1, 0, 0}}, 15, 3});
    const auto second =
        std::make_shared<const copy_template>(copy_template{{{0, 0, 5, 1, 0, 0}}, 5, 1});
    auto plan = std::make_shared<copy_plan>();
    plan->parts = {{0, 1, first, {{0, 2}, {3, 1}}}, {0, 0, second, {}}, {1, 0, second, {{1, 1}}}};
    plan->bytes = 35;
    plan->fragments = 7;
    return {plan, {{1000, 100, 5}, {5000, 50, 6}}, {{7000, 10, 7}, {9000, 64, 8}}, {}};
}

const std::vector<plan_stretch> expected = {
    {1004, 9128, 6, 5, 8}, {1014, 9134, 6, 5, 8}, {1040, 9158, 3, 5, 8}, {1304, 9064, 6, 5, 8},
    {1314, 9070, 6, 5, 8}, {1340, 9094, 3, 5, 8}, {5050, 7010, 5, 6, 7},
};

std::vector<plan_stretch> walk(const copy_job& job, std::uint64_t bytes_max) {
    std::vector<plan_stretch> result;
    plan_cursor cursor;
    while (auto x = cursor.next(job, bytes_max))
        result.push_back(*x);
    CHECK(cursor.bytes() == job.plan->bytes);
    CHECK_FALSE(cursor.next(job, bytes_max));
    return result;
}

} // namespace

TEST_CASE("plan_expand: addresses follow the rule pool, slot, offset, stride") {
    std::vector<plan_stretch> seen;
    const auto job = some_job();
    expand(job, [&seen](std::uint64_t source, std::uint64_t target, std::uint64_t bytes) {
        seen.push_back({source, target, bytes, 0, 0});
    });
    REQUIRE(seen.size() == expected.size());
    for (std::size_t index = 0; index < seen.size(); ++index) {
        CHECK(seen[index].source_address == expected[index].source_address);
        CHECK(seen[index].target_address == expected[index].target_address);
        CHECK(seen[index].bytes == expected[index].bytes);
    }
}

TEST_CASE("plan_cursor: with room enough it gives each stretch whole, with its regions") {
    CHECK(walk(some_job(), 1 << 20) == expected);
}

TEST_CASE(
    "plan_cursor: no piece is longer than asked for, and the pieces add up to the stretches") {
    for (std::uint64_t bytes_max = 1; bytes_max <= 7; ++bytes_max) {
        auto left = expected;
        std::size_t index = 0;
        for (const auto& x : walk(some_job(), bytes_max)) {
            CHECK(x.bytes <= bytes_max);
            REQUIRE(index < left.size());
            auto& whole = left[index];
            CHECK(x.source_address == whole.source_address);
            CHECK(x.target_address == whole.target_address);
            whole.source_address += x.bytes;
            whole.target_address += x.bytes;
            whole.bytes -= x.bytes;
            if (whole.bytes == 0)
                ++index;
        }
        CHECK(index == left.size());
    }
}

TEST_CASE("plan_cursor: a copy of it goes on from the same place") {
    const auto job = some_job();
    plan_cursor cursor;
    cursor.next(job, 4);
    auto copy = cursor;
    CHECK(cursor.next(job, 100) == plan_stretch{1008, 9132, 2, 5, 8});
    CHECK(copy.next(job, 100) == plan_stretch{1008, 9132, 2, 5, 8});
}

TEST_CASE("pool_bases: a pool in a region without address is refused by number") {
    page_table table;
    table.pools = {{1, 64, 128, 256, 4}};
    const auto bases = pool_bases(table, {1000, 2000});
    REQUIRE(bases);
    CHECK(bases->front().slot0_address == 2064);
    CHECK(bases->front().slot_stride_bytes == 256);
    CHECK(bases->front().region == 1);
    CHECK(code_of(pool_bases(table, {1000, 0}).error()) == errc::unsupported);
    CHECK(text_of(pool_bases(table, {1000}).error()).find("region 1") != std::string::npos);
}
