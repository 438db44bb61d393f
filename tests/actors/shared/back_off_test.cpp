// SPDX-License-Identifier: Apache-2.0
#include "actors/shared/back_off.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace kvferry;

TEST_CASE("back_off: doubles from the shortest to the longest wait, never less than half of it") {
    std::mt19937_64 random{5};
    back_off wait;
    const time_point now{std::chrono::hours{1}};
    CHECK(wait.until() < now);
    auto expected = back_off::shortest;
    for (int failure = 0; failure < 12; ++failure) {
        wait.failed(now, random);
        CHECK(wait.until() - now >= expected / 2);
        CHECK(wait.until() - now <= expected);
        expected = std::min(2 * expected, back_off::longest);
    }
}

TEST_CASE("back_off: two that failed at the same time do not come back at the same time") {
    std::set<time_point> back;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        std::mt19937_64 random{seed};
        back_off wait;
        wait.failed({}, random);
        back.insert(wait.until());
    }
    CHECK(back.size() > 10);
}
