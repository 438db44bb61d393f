// SPDX-License-Identifier: Apache-2.0
// Shares by weight and by bytes, nobody starves, nobody is idle beside work, and no call walks a
// queue.
#include "transport/turns/fair_turns.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

using namespace kvferry;

namespace {

constexpr std::uint64_t piece = 1 << 20;

/// What each item moves in so many turns of a piece.
std::map<fair_turns::item, std::uint64_t> serve(fair_turns& turns, int count,
                                                std::uint64_t bytes = piece) {
    std::map<fair_turns::item, std::uint64_t> moved;
    for (int i = 0; i < count; ++i) {
        const auto next = turns.front();
        REQUIRE(next);
        moved[*next] += bytes;
        turns.charge(*next, bytes);
    }
    return moved;
}

} // namespace

TEST_CASE("the classes share by their weights, whatever they began with") {
    fair_turns turns;
    turns.add(3, {.urgency = priority::low});
    serve(turns, 100); // alone, low has everything, and owes nothing for it
    turns.add(2, {.urgency = priority::normal});
    turns.add(1, {.urgency = priority::high});
    const auto moved = serve(turns, 2100);
    CHECK(moved.at(1) / piece == doctest::Approx(1600).epsilon(0.02));
    CHECK(moved.at(2) / piece == doctest::Approx(400).epsilon(0.02));
    CHECK(moved.at(3) / piece == doctest::Approx(100).epsilon(0.02));
}

TEST_CASE("a share does not depend on how many a class has") {
    fair_turns turns;
    for (fair_turns::item x = 0; x < 100; ++x)
        turns.add(x, {.urgency = priority::normal, .peer = x});
    turns.add(1000, {.urgency = priority::low});
    const auto moved = serve(turns, 1000);
    CHECK(moved.at(1000) / piece == doctest::Approx(200).epsilon(0.03));
}

TEST_CASE("what a class does not use is the others'") {
    fair_turns turns;
    turns.add(2, {.urgency = priority::normal});
    turns.add(3, {.urgency = priority::low});
    const auto moved = serve(turns, 500);
    CHECK(moved.at(2) / piece == doctest::Approx(400).epsilon(0.02));
    CHECK(moved.at(3) / piece == doctest::Approx(100).epsilon(0.02));
}

TEST_CASE("who comes with high urgency is next, whatever waits") {
    fair_turns turns;
    for (fair_turns::item x = 0; x < 50; ++x)
        turns.add(x, {.urgency = x % 2 == 0 ? priority::normal : priority::low, .peer = x});
    serve(turns, 333);
    turns.add(1000, {.urgency = priority::high, .peer = 7});
    CHECK(turns.front() == 1000);
    turns.charge(1000, 4096);
    CHECK(turns.remove(1000));
    serve(turns, 33);
    turns.add(1001, {.urgency = priority::high, .peer = 8});
    CHECK(turns.front() == 1001);
}

TEST_CASE("low gets its share however often high comes again") {
    fair_turns turns;
    turns.add(1, {.urgency = priority::low});
    std::uint64_t low = 0;
    for (fair_turns::item x = 2; x < 2000; ++x) {
        turns.add(x, {.urgency = priority::high});
        while (turns.front() == 1) {
            low += piece;
            turns.charge(1, piece);
        }
        turns.charge(x, piece);
        turns.remove(x);
    }
    CHECK(low / piece == doctest::Approx(2000 / 16).epsilon(0.05));
}

TEST_CASE("peers of a class share alike by bytes, not by what they ask for") {
    fair_turns turns;
    turns.add(1, {.peer = 1, .session = 1});
    for (fair_turns::item x = 10; x < 30; ++x) // twenty sessions of one peer
        turns.add(x, {.peer = 2, .session = x});
    auto moved = serve(turns, 400);
    CHECK(moved.at(1) / piece == doctest::Approx(200).epsilon(0.02));
    for (fair_turns::item x = 10; x < 30; ++x)
        CHECK(moved.at(x) / piece == doctest::Approx(10).epsilon(0.11));
}

TEST_CASE(
    "sessions of a peer share alike, whatever transfers they are made of and how long turns are") {
    fair_turns turns;
    turns.add(1, {.peer = 1, .session = 1});
    turns.add(2, {.peer = 1, .session = 2});
    turns.add(3, {.peer = 1, .session = 2});
    std::map<fair_turns::item, std::uint64_t> moved;
    for (int i = 0; i < 3000; ++i) {
        const auto next = *turns.front();
        const auto bytes = next == 1 ? piece : piece / 4;
        moved[next] += bytes;
        turns.charge(next, bytes);
    }
    CHECK(static_cast<double>(moved[1]) / static_cast<double>(moved[2] + moved[3])
          == doctest::Approx(1).epsilon(0.02));
    CHECK(static_cast<double>(moved[2]) / static_cast<double>(moved[3])
          == doctest::Approx(1).epsilon(0.02));
}

TEST_CASE("equal ones take turns in the order in which they came") {
    fair_turns turns;
    for (fair_turns::item x : {5, 3, 9})
        turns.add(x, {});
    for (int round = 0; round < 3; ++round)
        for (fair_turns::item x : {5, 3, 9}) {
            CHECK(turns.front() == x);
            turns.charge(x, piece);
        }
}

TEST_CASE("nobody gains by leaving and coming again") {
    fair_turns turns;
    turns.add(1, {.peer = 1});
    std::map<fair_turns::item, int> served;
    fair_turns::item second = 2;
    turns.add(second, {.peer = 2});
    for (int i = 0; i < 200; ++i) {
        const auto next = *turns.front();
        turns.charge(next, piece);
        ++served[next == 1 ? 1 : 2];
        if (next == second) {
            turns.remove(second);
            turns.add(++second, {.peer = 2});
        }
    }
    CHECK(served[1] >= 99);
    CHECK(served[2] >= 99);
}

TEST_CASE("who has less in each turn, and rests in between, gets as many bytes as the others") {
    fair_turns turns;
    std::map<fair_turns::item, std::uint64_t> moved;
    for (fair_turns::item x : {1, 2, 3})
        turns.add(x, {.peer = x});
    for (int i = 0; i < 6000; ++i) {
        const auto next = *turns.front();
        const auto bytes = next == 1 ? piece / 16 : piece;
        moved[next] += bytes;
        turns.charge(next, bytes);
        turns.rest(next);
        CHECK(turns.size() == 2);
        turns.add(next, {.peer = next});
    }
    CHECK(static_cast<double>(moved[1]) / static_cast<double>(moved[2])
          == doctest::Approx(1).epsilon(0.02));
}

TEST_CASE("who rests is not served, saves up nothing, and leaves nothing behind when it goes") {
    fair_turns turns;
    turns.add(1, {.peer = 1});
    turns.rest(1);
    CHECK(turns.empty());
    CHECK_FALSE(turns.front());
    turns.charge(1, piece); // it has no turn
    turns.add(2, {.peer = 2});
    serve(turns, 100);
    turns.add(1, {.peer = 1});
    const auto moved = serve(turns, 100);
    CHECK(moved.at(1) == moved.at(2));
    turns.rest(1);
    turns.rest(1);
    CHECK(turns.size() == 1);
    CHECK(turns.remove(1));
    CHECK(turns.size() == 1);
    CHECK(turns.front() == 2);
    CHECK(turns.remove(2));
    CHECK(turns.empty());
}

TEST_CASE("work conserving: whoever waits is served, in any order of comings, rests and goings") {
    std::mt19937_64 random{7};
    fair_turns turns;
    std::vector<fair_turns::item> waiting, resting;
    const auto any_of = [&](std::vector<fair_turns::item>& from) {
        const auto at = from.begin() + static_cast<std::ptrdiff_t>(random() % from.size());
        const auto result = *at;
        from.erase(at);
        return result;
    };
    for (fair_turns::item x = 1; x < 20000; ++x) {
        const auto dice = random() % 12;
        if (dice < 3 || waiting.empty()) {
            turns.add(x, {.urgency = priorities[random() % 3],
                          .peer = random() % 5,
                          .session = random() % 7});
            waiting.push_back(x);
        } else if (dice == 3) {
            CHECK(turns.remove(any_of(waiting)));
        } else if (dice == 4) {
            resting.push_back(any_of(waiting));
            turns.rest(resting.back());
        } else if (dice == 5 && !resting.empty()) {
            waiting.push_back(any_of(resting));
            turns.add(waiting.back(), {});
        } else if (dice == 6 && !resting.empty()) {
            CHECK(turns.remove(any_of(resting)));
        } else {
            const auto next = turns.front();
            REQUIRE(next);
            REQUIRE(std::find(waiting.begin(), waiting.end(), *next) != waiting.end());
            turns.charge(*next, random() % (2 * piece));
        }
        REQUIRE(turns.empty() == waiting.empty());
        REQUIRE(turns.size() == waiting.size());
        for (auto x : priorities)
            REQUIRE((turns.front(x) != std::nullopt) == (turns.size(x) > 0));
    }
    waiting.insert(waiting.end(), resting.begin(), resting.end());
    for (auto x : waiting)
        CHECK(turns.remove(x));
    CHECK(turns.front() == std::nullopt);
}

/// A walk over all that wait in each call would take many minutes here.
TEST_CASE("two hundred thousand waiting sessions cost a call next to nothing") {
    fair_turns turns;
    constexpr fair_turns::item count = 200'000;
    for (fair_turns::item x = 0; x < count; ++x)
        turns.add(x, {.urgency = priorities[x % 3], .peer = x % 1000, .session = x});
    serve(turns, 400'000);
    for (fair_turns::item x = 0; x < count; ++x)
        turns.remove(x);
    CHECK(turns.empty());
}

TEST_CASE("a class can be served by itself") {
    fair_turns turns;
    turns.add(1, {.urgency = priority::high});
    turns.add(2, {.urgency = priority::normal});
    turns.add(3, {.urgency = priority::low});
    CHECK(turns.front(priority::low) == 3);
    CHECK(turns.front(priority::normal) == 2);
    CHECK(turns.urgency(3) == priority::low);
    turns.remove(2);
    CHECK(turns.front(priority::normal) == std::nullopt);
    CHECK(turns.front() == 1);
}

TEST_CASE("who is unknown is neither removed nor charged") {
    fair_turns turns;
    CHECK_FALSE(turns.remove(4));
    turns.charge(4, piece);
    turns.add(4, {});
    turns.add(4, {.urgency = priority::high}); // keeps its place
    CHECK(turns.front(priority::high) == std::nullopt);
    CHECK(turns.size() == 1);
}
