// SPDX-License-Identifier: Apache-2.0
// Who has to go when strangers come: never somebody who has shown who he is, and never all of an
// address because of another one.
#include "transport/secure/stranger_ledger.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

using namespace kvferry;

using ids = std::vector<stranger_ledger::id>;

TEST_CASE("stranger_ledger: one address holds so many, the oldest makes room") {
    stranger_ledger ledger{{2, 100, 1000}};
    CHECK(ledger.enter(1, "192.0.2.1").empty());
    CHECK(ledger.enter(2, "192.0.2.1").empty());
    CHECK(ledger.enter(3, "192.0.2.2").empty());
    CHECK(ledger.enter(4, "192.0.2.1") == ids{1});
    ledger.known(2);
    CHECK(ledger.enter(5, "192.0.2.1").empty());
    CHECK(ledger.enter(6, "192.0.2.1") == ids{4});
    ledger.stranger_again(2);
    CHECK(ledger.enter(7, "192.0.2.1") == ids{5}); // 2 is the youngest again
    CHECK(ledger.connections() == 4);
    CHECK(ledger.strangers() == 4);
}

TEST_CASE(
    "stranger_ledger: a network of 64 bits is one address, and so is an IPv4 one in disguise") {
    CHECK(stranger_address("2001:db8:1:2:3:4:5:6") == stranger_address("2001:db8:1:2:ffff::1"));
    CHECK(stranger_address("2001:db8:1:2::1") != stranger_address("2001:db8:1:3::1"));
    CHECK(stranger_address("::ffff:192.0.2.7") == "192.0.2.7");
    CHECK(stranger_address("192.0.2.7") != stranger_address("192.0.2.8"));
}

TEST_CASE(
    "stranger_ledger: without room the address that has most gives, and nobody who is known") {
    stranger_ledger ledger{{10, 4, 1000}};
    ledger.enter(1, "192.0.2.1");
    ledger.enter(2, "192.0.2.2");
    ledger.enter(3, "192.0.2.2");
    ledger.enter(4, "192.0.2.3");
    ledger.known(4);
    CHECK(ledger.enter(5, "192.0.2.4") == ids{2});
    ledger.known(1);
    ledger.known(3);
    ledger.known(5);
    CHECK(ledger.enter(6, "192.0.2.5") == ids{6});
    CHECK(ledger.connections() == 4);
}

TEST_CASE("stranger_ledger: unfinished bytes of one address are bounded, those of known ones are "
          "not") {
    stranger_ledger ledger{{10, 100, 1000}};
    for (int i = 1; i <= 4; ++i)
        ledger.enter(i, "192.0.2.1");
    ledger.enter(5, "192.0.2.2");
    CHECK(ledger.keeps(2, 600).empty());
    CHECK(ledger.keeps(5, 900).empty());
    CHECK(ledger.keeps(3, 400).empty());
    CHECK(ledger.keeps(3, 500) == ids{2}); // 1 keeps nothing
    CHECK(ledger.keeps(4, 5000) == ids{3, 4});
    ledger.known(5);
    CHECK(ledger.keeps(5, 5000).empty());
    CHECK(ledger.keeps(77, 5000).empty());
}

TEST_CASE("stranger_ledger: bounds hold over any order of events") {
    for (unsigned seed = 1; seed <= 50; ++seed) {
        std::mt19937 random{seed};
        stranger_ledger ledger{{3, 12, 100}};
        struct entry {
            std::string address;
            bool stranger = true;
            std::size_t bytes = 0;
        };
        std::map<stranger_ledger::id, entry> model;
        stranger_ledger::id last = 0;
        for (int step = 0; step < 2000; ++step) {
            const auto any = [&] {
                return std::next(model.begin(), static_cast<long>(random() % model.size()));
            };
            const auto forget = [&](const ids& gone) {
                for (auto each : gone) {
                    CHECK(model.at(each).stranger);
                    model.erase(each);
                }
            };
            if (const auto what = random() % 6; what < 2 || model.empty()) {
                model[++last] = {"192.0.2." + std::to_string(random() % 6)};
                forget(ledger.enter(last, model[last].address));
            } else if (const auto chosen = any(); what == 2) {
                const auto bytes = random() % 120;
                if (chosen->second.stranger)
                    chosen->second.bytes = bytes;
                forget(ledger.keeps(chosen->first, bytes));
            } else if (what == 3) {
                ledger.known(chosen->first);
                chosen->second.stranger = false;
                chosen->second.bytes = 0;
            } else if (what == 4) {
                ledger.stranger_again(chosen->first);
                chosen->second.stranger = true;
            } else {
                ledger.leave(chosen->first);
                model.erase(chosen);
            }
            std::map<std::string, std::pair<std::size_t, std::size_t>> by_address;
            std::size_t strangers = 0;
            for (const auto& [which, each] : model)
                if (each.stranger) {
                    ++strangers;
                    ++by_address[each.address].first;
                    by_address[each.address].second += each.bytes;
                }
            REQUIRE(ledger.connections() == model.size());
            REQUIRE(ledger.strangers() == strangers);
            REQUIRE(model.size() <= 12);
            for (const auto& [address, held] : by_address) {
                // One that was known and is a stranger again is not refused for it.
                REQUIRE(held.first <= 12);
                REQUIRE(held.second <= 100);
            }
        }
    }
}
