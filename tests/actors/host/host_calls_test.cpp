// SPDX-License-Identifier: Apache-2.0
// host_calls: what a host may have waiting, and places that are always given back.
#include "actors/host/host_calls.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace kvferry;

TEST_CASE("host_calls: so many places and no more, each free again when its call is gone") {
    auto calls = std::make_shared<host_calls>(2);
    auto first = calls->enter();
    auto second = calls->enter();
    CHECK(first);
    CHECK(second);
    CHECK_FALSE(calls->enter());
    CHECK_FALSE(calls->enter()); // a refusal takes no place
    auto copy = first;
    first.reset();
    CHECK_FALSE(calls->enter()); // the call is still there
    copy.reset();
    CHECK(calls->enter());
    second.reset();
    std::vector<std::shared_ptr<const void>> again{calls->enter(), calls->enter()};
    CHECK(again[0]);
    CHECK(again[1]);
    CHECK_FALSE(calls->enter());
    calls.reset(); // places outlive the rank
    again.clear();
}
