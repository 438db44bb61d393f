// SPDX-License-Identifier: Apache-2.0
// Spans come out in order, none twice, and what finds no room is counted.
#include "messages/trace/span_queue.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <thread>
#include <vector>

namespace kvferry::testing {

TEST_CASE("span queue: a full one drops what comes and keeps what it has, round after round") {
    const auto queue = std::make_unique<span_queue>();
    session_span taken;
    CHECK_FALSE(queue->take(taken));
    for (std::uint64_t round = 0; round < 3; ++round) {
        for (std::uint64_t count = 0; count < span_queue::spans_max; ++count)
            REQUIRE(queue->offer({.rid = count}));
        CHECK_FALSE(queue->offer({.rid = 1}));
        CHECK(queue->dropped() == round + 1);
        for (std::uint64_t count = 0; count < span_queue::spans_max; ++count) {
            REQUIRE(queue->take(taken));
            REQUIRE(taken.rid == count);
        }
        CHECK_FALSE(queue->take(taken));
    }
}

TEST_CASE("span queue: with several ranks at once each span is taken once or counted as dropped") {
    const auto queue = std::make_unique<span_queue>();
    constexpr std::uint64_t each = 50'000;
    std::vector<std::thread> ranks;
    for (std::uint64_t rank = 0; rank < 3; ++rank)
        ranks.emplace_back([&, rank] {
            for (std::uint64_t count = 1; count <= each; ++count)
                queue->offer({.rid = count, .attempt = rank});
        });
    std::vector<std::uint64_t> last(ranks.size());
    std::uint64_t taken = 0;
    std::uint64_t out_of_order = 0;
    session_span span;
    while (taken + queue->dropped() < ranks.size() * each)
        if (queue->take(span)) {
            ++taken;
            out_of_order += span.rid <= last[span.attempt];
            last[span.attempt] = span.rid;
        }
    for (auto& rank : ranks)
        rank.join();
    CHECK(out_of_order == 0);
    CHECK(taken + queue->dropped() == ranks.size() * each);
    CHECK_FALSE(queue->take(span));
}

} // namespace kvferry::testing
