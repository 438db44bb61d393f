// SPDX-License-Identifier: Apache-2.0
// A put is refused before its first byte when any stretch would land outside its region.
#include "transport/fabric/put_check.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

namespace {

copy_job job_of(run x, std::vector<slot_pair> slots, pool_base target) {
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back(x);
    auto plan = std::make_shared<copy_plan>();
    plan->parts.push_back({0, 0, layout, std::move(slots)});
    return {plan, {{0, 0, 0}}, {target}, {}};
}

/// Region 3: 1000 bytes at 5000.
caf::expected<target_region> find(std::uint32_t region) {
    if (region != 3)
        return make_error(errc::transfer_failed, "no region " + std::to_string(region));
    return target_region{5000, 1000};
}

errc code(const copy_job& job) {
    return code_of(check_put(job, find));
}

} // namespace

TEST_CASE(
    "put_check: a plan that fills its region to the last byte is accepted, one byte more is not") {
    // Two slots of 500 bytes, five stretches of 100 each.
    CHECK(code(job_of({0, 0, 100, 5, 100, 100}, {{0, 0}, {0, 1}}, {5000, 500, 3})) == errc::none);
    CHECK(code(job_of({0, 1, 100, 5, 100, 100}, {{0, 0}, {0, 1}}, {5000, 500, 3}))
          == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 101, 5, 100, 100}, {{0, 0}, {0, 1}}, {5000, 500, 3}))
          == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 100, 5, 100, 100}, {{0, 0}, {0, 2}}, {5000, 500, 3}))
          == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 100, 5, 100, 100}, {{0, 0}}, {4999, 500, 3})) == errc::plan_invalid);
}

TEST_CASE("put_check: numbers that wrap around are no way into a region") {
    constexpr auto max = ~std::uint64_t{0};
    CHECK(code(job_of({0, max, 100, 1, 0, 0}, {{0, 0}}, {5001, 0, 3})) == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 100, 3, 0, max / 2 + 1}, {{0, 0}}, {5000, 0, 3}))
          == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 100, 1, 0, 0}, {{0, 2}}, {5000, max / 2 + 1, 3}))
          == errc::plan_invalid);
    CHECK(code(job_of({0, 0, max, 1, 0, 0}, {{0, 0}}, {5001, 0, 3})) == errc::plan_invalid);
}

TEST_CASE("put_check: a plan whose parts do not fit together is refused") {
    auto good = job_of({0, 0, 10, 1, 0, 0}, {{0, 0}}, {5000, 0, 3});
    REQUIRE(code(good) == errc::none);
    auto bad = good;
    bad.plan = nullptr;
    CHECK(code(bad) == errc::plan_invalid);
    bad = good;
    bad.target_pools.clear();
    CHECK(code(bad) == errc::plan_invalid);
    bad = good;
    bad.source_pools.clear();
    CHECK(code(bad) == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 0, 1, 0, 0}, {{0, 0}}, {5000, 0, 3})) == errc::plan_invalid);
    CHECK(code(job_of({0, 0, 1, 0, 0, 0}, {{0, 0}}, {5000, 0, 3})) == errc::plan_invalid);
}

TEST_CASE("put_check: what the look-up of a region says is passed on") {
    CHECK(code(job_of({0, 0, 10, 1, 0, 0}, {{0, 0}}, {5000, 0, 4})) == errc::transfer_failed);
}

TEST_CASE("put_check: a plan without parts is valid and does nothing") {
    CHECK(code({std::make_shared<copy_plan>(), {}, {}, {}}) == errc::none);
}
