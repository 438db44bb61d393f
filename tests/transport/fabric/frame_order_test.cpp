// SPDX-License-Identifier: Apache-2.0
// Frames come out in the order of their numbers, each once, in whatever order they arrived.
#include "transport/fabric/frame_order.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>

using namespace kvferry;

namespace {

caf::byte_buffer frame(std::uint64_t number) {
    return {static_cast<caf::byte>(number), static_cast<caf::byte>(number >> 8)};
}

} // namespace

TEST_CASE("frame_order: any order of arrival becomes the order of sending") {
    std::mt19937 random{7};
    for (int round = 0; round < 50; ++round) {
        std::vector<std::uint64_t> numbers(100);
        std::iota(numbers.begin(), numbers.end(), 0);
        std::shuffle(numbers.begin(), numbers.end(), random);
        frame_order order;
        std::vector<caf::byte_buffer> ready;
        for (auto number : numbers)
            CHECK(order.accept(1, number, frame(number), ready));
        REQUIRE(ready.size() == numbers.size());
        for (std::uint64_t number = 0; number < ready.size(); ++number)
            REQUIRE(ready[number] == frame(number));
    }
}

TEST_CASE("frame_order: a frame that comes twice is handed on once") {
    frame_order order;
    std::vector<caf::byte_buffer> ready;
    CHECK(order.accept(1, 0, frame(0), ready));
    CHECK_FALSE(order.accept(1, 0, frame(0), ready));
    CHECK(order.accept(1, 2, frame(2), ready));
    CHECK_FALSE(order.accept(1, 2, frame(2), ready));
    CHECK(order.accept(1, 1, frame(1), ready));
    CHECK(ready.size() == 3);
}

TEST_CASE("frame_order: streams do not wait for each other") {
    frame_order order;
    std::vector<caf::byte_buffer> ready;
    CHECK(order.accept(1, 1, frame(1), ready)); // waits
    CHECK(order.accept(2, 0, frame(20), ready));
    CHECK(ready == std::vector<caf::byte_buffer>{frame(20)});
}

TEST_CASE("frame_order: what it remembers is bounded") {
    frame_order order{3, 5};
    std::vector<caf::byte_buffer> ready;
    for (std::uint64_t stream = 0; stream < 10; ++stream)
        CHECK(order.accept(stream, 0, frame(0), ready));
    CHECK(order.streams() == 3);
    CHECK(order.accept(9, 1, frame(1), ready)); // the newest ones are still remembered
    CHECK(ready.size() == 11);
    for (std::uint64_t number = 3; number < 8; ++number)
        CHECK(order.accept(9, number, frame(number), ready));
    CHECK_FALSE(order.accept(9, 8, frame(8), ready)); // five already wait for number 2
    CHECK(order.accept(9, 2, frame(2), ready));       // number 2 itself is accepted
    CHECK(ready.size() == 17);
}
