// SPDX-License-Identifier: Apache-2.0
// Turns, bounds and ends of the device's schedule, driven by hand.
#include "cuda/copy_schedule.hpp"
#include "cuda/kernel/flat_plan.hpp"
#include "tests/support/random_plan.hpp"

#include <doctest/doctest.h>

#include <map>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// A plan of `kib` KiB in units of 1 KiB.
struct planned {
    explicit planned(std::uint32_t kib)
        : sample(shuffled_fragments(kib, 1024)), memory(measure(sample.job(0, 0)).bytes() / 8 + 1),
          plan(flatten(sample.job(0, 0), reinterpret_cast<std::byte*>(memory.data()), 1024)) {}
    plan_sample sample;
    std::vector<std::uint64_t> memory;
    device_plan_view plan;
};

constexpr transfer_id a{1}, b{2}, c{3};
/// Without an express lane.
constexpr copy_schedule_options by_4_kib{4096, 16384, 64, 0};

} // namespace

TEST_CASE("copy_schedule: transfers take turns of equal bytes, and a short one is through in its "
          "first turn") {
    const planned big{100}, other{100}, small{2};
    copy_schedule schedule{by_4_kib};
    schedule.add(a, big.plan);
    schedule.add(b, other.plan);
    schedule.add(c, small.plan);
    std::vector<transfer_id> order;
    std::map<transfer_id, std::uint64_t> bytes;
    for (std::uint64_t oldest = 1; order.size() < 9;) {
        const auto chunk = schedule.next();
        if (!chunk) {
            schedule.ended(oldest++);
            continue;
        }
        order.push_back(chunk->id);
        bytes[chunk->id] += chunk->bytes;
    }
    CHECK((order == std::vector<transfer_id>{a, b, c, a, b, a, b, a, b}));
    CHECK(bytes[a] == bytes[b]);
    CHECK(bytes[c] == 2048);
}

TEST_CASE("copy_schedule: no more bytes and no more chunks are in flight than allowed") {
    const planned big{100};
    copy_schedule schedule{{4096, 10000, 64, 0}};
    schedule.add(a, big.plan);
    CHECK(schedule.next());
    CHECK(schedule.next());
    CHECK_FALSE(schedule.next());
    CHECK(schedule.ended(2).bytes == 4096); // chunks may end in any order
    CHECK(schedule.next()->number == 3);

    copy_schedule few{{4096, 1u << 30, 3, 0}};
    few.add(a, big.plan);
    while (few.next()) {
    }
    CHECK(few.chunks_in_flight() == 3);
}

TEST_CASE("copy_schedule: one chunk goes even when it alone is more than may be in flight") {
    const planned big{100};
    copy_schedule schedule{{4096, 1, 64, 0}};
    schedule.add(a, big.plan);
    for (int chunks = 0; chunks < 25; ++chunks) {
        const auto chunk = schedule.next();
        REQUIRE(chunk);
        CHECK_FALSE(schedule.next());
        schedule.ended(chunk->number);
    }
    CHECK(schedule.is_over(a));
    CHECK(schedule.bytes_done(a) == 100 * 1024);
}

TEST_CASE("copy_schedule: a stopped transfer launches nothing more and is over when its last chunk "
          "has ended") {
    const planned big{100}, other{8};
    copy_schedule schedule{by_4_kib};
    schedule.add(a, big.plan);
    schedule.add(b, other.plan);
    schedule.next();
    schedule.stop(a);
    CHECK_FALSE(schedule.is_over(a));
    CHECK(schedule.next()->id == b);
    CHECK(schedule.next()->id == b);
    CHECK_FALSE(schedule.next());
    CHECK(schedule.ended(1).id == a);
    CHECK(schedule.is_over(a));
    CHECK(schedule.bytes_done(a) == 4096);
    schedule.remove(a);
    schedule.ended(3);
    CHECK_FALSE(schedule.is_over(b));
    schedule.ended(2);
    CHECK(schedule.is_over(b));
}

TEST_CASE("copy_schedule: a chunk that could not be launched takes its transfer out of the turns") {
    const planned big{100}, other{8};
    copy_schedule schedule{by_4_kib};
    schedule.add(a, big.plan);
    schedule.add(b, other.plan);
    schedule.not_launched(schedule.next()->number);
    CHECK(schedule.is_over(a));
    CHECK(schedule.bytes_done(a) == 0);
    CHECK_FALSE(schedule.in_flight(a));
    CHECK(schedule.next()->id == b);
    CHECK(schedule.in_flight(b));
}

TEST_CASE(
    "copy_schedule: a short transfer is launched beside long ones, whatever they have in flight") {
    const planned big{100}, small{2}, other{1}, longest{4}, too_long{5};
    copy_schedule schedule{{4096, 8192, 2, 1u << 20}};
    schedule.add(a, big.plan);
    CHECK(schedule.next()->lane == copy_lane::bulk);
    CHECK(schedule.next()->lane == copy_lane::other_bulk);
    CHECK_FALSE(schedule.next());
    schedule.add(b, small.plan);
    schedule.add(c, other.plan);
    schedule.add(transfer_id{4}, longest.plan);
    schedule.add(transfer_id{5}, too_long.plan);
    const auto first = schedule.next();
    REQUIRE(first);
    CHECK(first->id == b);
    CHECK(first->lane == copy_lane::express);
    CHECK(schedule.next()->id == c);
    CHECK_FALSE(schedule.next()); // each lane has a bound of its own
    schedule.ended(first->number);
    CHECK(schedule.is_over(b));
    const auto next = schedule.next();
    REQUIRE(next);
    CHECK(next->id == transfer_id{4}); // one chunk only
    CHECK(next->lane == copy_lane::express);
    schedule.ended(1);
    CHECK(schedule.next()->id == transfer_id{5}); // the other one has had two chunks
    schedule.ended(2);
    CHECK(schedule.next()->id == a); // it takes turns, in chunks
}

TEST_CASE("copy_schedule: chunks go to the bulk lane that has less before them") {
    const planned big{100}, other{3};
    copy_schedule schedule{{4096, 1u << 20, 64, 0}};
    schedule.add(b, other.plan);
    schedule.add(a, big.plan);
    std::vector<copy_lane> lanes;
    for (int chunks = 0; chunks < 4; ++chunks)
        lanes.push_back(schedule.next()->lane);
    CHECK((lanes
           == std::vector<copy_lane>{copy_lane::bulk, copy_lane::other_bulk, copy_lane::bulk,
                                     copy_lane::other_bulk}));
    schedule.ended(2);
    CHECK(schedule.next()->lane == copy_lane::other_bulk);
}

TEST_CASE(
    "copy_schedule: long transfers share the lanes by class and by peer, short ones go in the "
    "order of their classes") {
    const planned big{1000}, other{1000}, last{1000}, small{1}, smaller{1};
    copy_schedule schedule{{1024, 1024, 64, 0}};
    schedule.add(a, big.plan, {.urgency = priority::high, .peer = 1});
    schedule.add(b, other.plan, {.urgency = priority::normal, .peer = 1});
    schedule.add(c, last.plan, {.urgency = priority::normal, .peer = 2});
    std::map<transfer_id, int> chunks;
    for (int turn = 0; turn < 500; ++turn) {
        const auto chunk = schedule.next();
        REQUIRE(chunk);
        ++chunks[chunk->id];
        schedule.ended(chunk->number);
    }
    CHECK(chunks[a] == doctest::Approx(400).epsilon(0.02));
    CHECK(chunks[b] == doctest::Approx(50).epsilon(0.05));
    CHECK(chunks[c] == doctest::Approx(50).epsilon(0.05));

    copy_schedule express{{4096, 1u << 20, 64, 1u << 20}};
    express.add(a, small.plan, {.urgency = priority::low});
    express.add(b, smaller.plan, {.urgency = priority::high});
    CHECK(express.next()->id == b);
    CHECK(express.next()->id == a);
}
