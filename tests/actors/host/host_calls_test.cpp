// SPDX-License-Identifier: Apache-2.0
// host_calls: limits a host's waiting calls, and always gets their places back.
#include "actors/host/host_calls.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace kvferry;

TEST_CASE(
    "host_calls: the number of places is fixed, and a place is free again when its call is gone") {
    auto calls = std::make_shared<host_calls>(2);
    auto first = calls->enter();
    auto second = calls->enter();
    CHECK(first);
    CHECK(second);
    CHECK_FALSE(calls->enter());
    CHECK_FALSE(calls->enter()); // a refused call takes no place
    auto copy = first;
    first.reset();
    CHECK_FALSE(calls->enter()); // the copy still holds the place
    copy.reset();
    CHECK(calls->enter());
    second.reset();
    std::vector<std::shared_ptr<const void>> again{calls->enter(), calls->enter()};
    CHECK(again[0]);
    CHECK(again[1]);
    CHECK_FALSE(calls->enter());
    calls.reset(); // places may outlive the rank
    again.clear();
}
