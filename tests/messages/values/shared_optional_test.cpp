// SPDX-License-Identifier: Apache-2.0
// Copies of a large value: one until somebody changes his.
#include "messages/values/page_table.hpp"
#include "messages/values/shared_optional.hpp"

#include <doctest/doctest.h>

#include <utility>

using namespace kvferry;

namespace {

shared_optional<page_table> one_pool(std::uint64_t slot_bytes) {
    page_table result;
    result.pools.emplace_back().slot_bytes = slot_bytes;
    return result;
}

} // namespace

TEST_CASE("shared_optional: copies share their value until one is changed, which the others do not "
          "see") {
    auto first = one_pool(100);
    auto second = first;
    CHECK(second.shares(first));
    CHECK(&*std::as_const(second) == &*std::as_const(first));
    second->pools[0].slot_bytes = 200;
    CHECK_FALSE(second.shares(first));
    CHECK(std::as_const(first)->pools[0].slot_bytes == 100);
    CHECK(std::as_const(second)->pools[0].slot_bytes == 200);

    const auto* own = &*std::as_const(second);
    second->pools[0].slot_bytes = 300; // nobody shares it any more
    CHECK(&*std::as_const(second) == own);
}

TEST_CASE("shared_optional: equal is what holds equal values, or nothing") {
    CHECK(one_pool(1) == one_pool(1));
    CHECK_FALSE(one_pool(1) == one_pool(2));
    CHECK_FALSE(one_pool(1) == shared_optional<page_table>{});
    CHECK(shared_optional<page_table>{} == shared_optional<page_table>{std::nullopt});
    CHECK_FALSE(shared_optional<page_table>{});
    CHECK_THROWS(shared_optional<page_table>{}.value());
    auto emptied = one_pool(1);
    const auto kept = emptied;
    emptied.reset();
    CHECK_FALSE(emptied);
    CHECK(kept->pools[0].slot_bytes == 1);
}
