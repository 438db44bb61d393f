// SPDX-License-Identifier: Apache-2.0
// A put asks for credit region by region, in the order of its plan, and never sends more than it
// was given.
#include "transport/fabric/put_credit.hpp"

#include <doctest/doctest.h>

#include <utility>

using namespace kvferry;

namespace {

/// One part per named region, with `slots` pairs of slots of 10 bytes each.
copy_job job_to(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& slots_in_region) {
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back({0, 0, 5, 2, 5, 5});
    layout->bytes = 10;
    layout->fragments = 2;
    auto plan = std::make_shared<copy_plan>();
    copy_job result{nullptr, {{0, 10, 0}}, {}, {}};
    for (auto [region, slots] : slots_in_region) {
        result.target_pools.push_back({0, 10, region});
        plan_part part{0, static_cast<std::uint32_t>(plan->parts.size()), layout, {}};
        part.slots.resize(slots);
        plan->parts.push_back(part);
    }
    result.plan = plan;
    return result;
}

using demand = put_credit::demand;

bool is_odd(std::uint32_t region) {
    return region % 2 == 1;
}

} // namespace

TEST_CASE("put_credit: host memory needs none") {
    put_credit x{job_to({{0, 3}, {2, 1}}), is_odd};
    CHECK(x.room(100) == 100);
    x.posted(30);
    CHECK(x.room(7) == 7);
    x.posted(10);
    CHECK_FALSE(x.take_demand());
    CHECK_FALSE(x.has_asked());
}

TEST_CASE("put_credit: neighbouring parts of one region are asked for together, once, and the next "
          "region not before") {
    put_credit x{job_to({{1, 3}, {1, 2}, {4, 1}, {3, 0}, {1, 1}}), is_odd};
    CHECK(x.take_demand() == demand{1, 50});
    CHECK_FALSE(x.take_demand());
    CHECK(x.has_asked());
    CHECK(x.room(8) == 0);
    x.granted(20);
    CHECK(x.room(8) == 8);
    x.posted(8);
    x.posted(8);
    CHECK(x.room(8) == 4);
    x.posted(4);
    CHECK(x.room(8) == 0);
    x.granted(30);
    CHECK(x.room(100) == 30);
    x.posted(30);
    CHECK(x.room(100) == 100); // host memory needs no credit
    CHECK_FALSE(x.take_demand());
    x.posted(10);
    CHECK(x.take_demand() == demand{1, 10});
    CHECK(x.room(100) == 0);
    x.granted(10);
    x.posted(10);
    CHECK_FALSE(x.take_demand());
    CHECK(x.room(100) == 100); // all bytes are sent
}
