// SPDX-License-Identifier: Apache-2.0
// The table of ids against one of the library, in random orders.
#include "actors/shared/id_map.hpp"
#include "messages/values/ids.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <random>

using namespace kvferry;

namespace {

using table = id_map<rid, int>;

std::map<rid, int> entries_of(const table& x) {
    std::map<rid, int> result;
    x.for_each([&](rid key, int value) { CHECK(result.emplace(key, value).second); });
    return result;
}

} // namespace

TEST_CASE("id_map: holds what was put in and not taken out, whatever the order") {
    std::mt19937_64 random{1};
    for (const std::uint64_t keys : {3, 40, 2000}) {
        table tested;
        std::map<rid, int> expected;
        for (int step = 0; step < 20000; ++step) {
            const rid key{random() % keys};
            const auto grows = (step / 3000) % 2 == 0; // in turn more and fewer entries
            if (random() % 4 < (grows ? 3u : 1u)) {
                tested[key] = expected[key] = step;
            } else {
                const auto known = expected.extract(key);
                const auto taken = tested.extract(key);
                REQUIRE(taken.has_value() == !known.empty());
                if (taken)
                    CHECK(*taken == known.mapped());
            }
            REQUIRE(tested.size() == expected.size());
            REQUIRE(tested.contains(key) == expected.contains(key));
        }
        CHECK(entries_of(tested) == expected);
        for (const auto& [key, value] : expected)
            CHECK(*tested.find(key) == value);
    }
}

TEST_CASE("id_map: an entry that is there is neither made anew nor found under another key") {
    table tested;
    CHECK_FALSE(tested.find({1}));
    CHECK_FALSE(tested.erase({1}));
    tested[{1}] = 10;
    CHECK(tested[{1}] == 10);
    CHECK_FALSE(tested.find({2}));
    CHECK(tested.size() == 1);
    CHECK(tested.erase({1}));
    CHECK(tested.empty());
    CHECK(tested[{1}] == 0);
}
