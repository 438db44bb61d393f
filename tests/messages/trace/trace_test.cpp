// SPDX-License-Identifier: Apache-2.0
// Rings: the newest events stay, each is collected once, and lost ones are counted.
#include "messages/trace/trace.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <thread>

using namespace kvferry;

namespace {

void record_numbered(std::uint64_t first, std::uint64_t count) {
    for (auto rid = first; rid < first + count; ++rid) {
        trace::event x;
        x.message = "numbered";
        x.rid = rid;
        x.attempt = rid;
        x.ticks = trace::now();
        trace::record(x);
    }
}

/// The collector's events of the thread with this rank.
trace::thread_events collected(trace::collector& from, const std::string& rank) {
    for (auto& thread : from.collect())
        if (thread.rank == rank)
            return thread;
    return {};
}

} // namespace

TEST_CASE("trace: a full ring keeps the newest events and counts what it overwrote") {
    trace::snapshot seen;
    std::thread{[&] {
        record_numbered(0, trace::ring_events + 10);
        seen = trace::this_thread();
    }}.join();
    CHECK(seen.overwritten == 10);
    REQUIRE(seen.events.size() == trace::ring_events);
    CHECK(seen.events.front().rid == 10);
    CHECK(seen.events.back().rid == trace::ring_events + 9);
}

TEST_CASE(
    "trace: a collector gets every event of a thread once, after its end too, under its name") {
    trace::collector events;
    events.collect();
    std::thread{[] {
        trace::name_thread("test/collected", "loop");
        record_numbered(0, 3);
    }}.join();
    auto first = collected(events, "test/collected");
    CHECK(first.role == "loop");
    CHECK(first.lost == 0);
    REQUIRE(first.events.size() == 3);
    CHECK(first.events[2].rid == 2);
    CHECK(collected(events, "test/collected").events.empty());
}

TEST_CASE("trace: what was overwritten before it was collected is counted") {
    trace::collector events;
    std::thread{[] {
        trace::name_thread("test/lost", "loop");
        record_numbered(0, trace::ring_events + 100);
    }}.join();
    auto seen = collected(events, "test/lost");
    CHECK(seen.lost + seen.events.size() == trace::ring_events + 100);
    CHECK(seen.lost >= 100);
    CHECK(seen.events.back().rid == trace::ring_events + 99);
}

TEST_CASE("trace: events that are collected while their thread records are whole, in order and "
          "none twice") {
    constexpr std::uint64_t count = 300'000;
    std::atomic<bool> over{false};
    trace::collector events;
    std::thread writer{[&] {
        trace::name_thread("test/racing", "loop");
        record_numbered(1, count);
        over = true;
    }};
    std::uint64_t seen = 0, lost = 0, newest = 0, wrong = 0;
    for (bool last = false; !last;) {
        last = over;
        const auto now = collected(events, "test/racing");
        lost += now.lost;
        seen += now.events.size();
        for (const auto& x : now.events) {
            wrong += x.rid != x.attempt || x.rid <= newest;
            newest = x.rid;
        }
    }
    writer.join();
    CHECK(wrong == 0);
    CHECK(seen + lost == count);
    CHECK(newest == count);
}

TEST_CASE("trace: nothing is recorded while it is switched off") {
    std::size_t recorded = 1;
    std::thread{[&] {
        trace::enable(false);
        record_numbered(0, 5);
        trace::enable(true);
        recorded = trace::this_thread().events.size();
    }}.join();
    CHECK(recorded == 0);
}

TEST_CASE("trace: a virtual clock gives all events their ticks") {
    static std::uint64_t time = 0;
    trace::use_clock([] { return time += 5; });
    const auto first = trace::now();
    CHECK(trace::now() == first + 5);
    const auto pair = trace::clock_now();
    trace::use_clock(nullptr);
    CHECK(pair.ticks == first + 10);
    CHECK(pair.monotonic_ns == pair.ticks);
}
