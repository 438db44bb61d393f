// SPDX-License-Identifier: Apache-2.0
// Recordings: what is written can be read, and of a damaged file everything that is intact.
#include "actors/host/configure.hpp"
#include "doctest/doctest.h"
#include "messages/trace/trace_format.hpp"
#include "messages/values/ids.hpp"
#include "messages/version.hpp"
#include "tests/support/contains.hpp"
#include "tools/trace/pictures/pictures.hpp"
#include "tools/trace/recording.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace kvferry;
using kvferry::testing::contains;

namespace {

using bytes = std::vector<std::byte>;

constexpr std::uint64_t batches = 5;
constexpr std::uint64_t events_per_batch = 4;

void append(bytes& to, const bytes& more) {
    to.insert(to.end(), more.begin(), more.end());
}

/// Batches of events whose ticks are half nanoseconds.
bytes sample(bool with_end = true) {
    trace::recording_encoder encoder;
    auto result = encoder.begin({1000, 500}, 42, "context", "here");
    for (std::uint64_t batch = 0; batch < batches; ++batch) {
        trace::thread_events thread{3, "context/0", "loop", batch == 1 ? 7u : 0u, {}};
        for (std::uint64_t i = 0; i < events_per_batch; ++i) {
            trace::event x;
            x.ticks = 1000 + 200 * (batch * events_per_batch + i);
            x.actor = "sender";
            x.message = "request_data";
            x.rid = (1ull << 63) - 1;
            x.attempt = ~0ull;
            x.key = batch * events_per_batch + i;
            x.actor_id = 5;
            x.peer_id = 6;
            x.number = 4096;
            x.what = trace::instant::dequeued;
            thread.events.push_back(x);
        }
        append(result, encoder.add({1000 + 800 * (batch + 1), 500 + 400 * (batch + 1)}, {thread}));
    }
    if (with_end)
        append(result, encoder.end("complete"));
    return result;
}

caf::expected<tracing::recording> read(const bytes& data) {
    init_types();
    return tracing::read_recording(data, "a.kvtrace");
}

} // namespace

TEST_CASE("trace recording: what is written is read, with times in nanoseconds") {
    auto x = read(sample());
    REQUIRE(x);
    CHECK(x->problems.empty());
    CHECK(x->process_id == 42);
    CHECK(x->program == "context");
    CHECK(x->version == version());
    CHECK(x->machine == "here");
    CHECK(x->ended == "complete");
    CHECK(x->lost() == 7);
    CHECK(x->threads.at(3).rank == "context/0");
    REQUIRE(x->events.size() == batches * events_per_batch);
    const auto& last = x->events.back();
    CHECK(last.time_ns == 500 + 100 * 19);
    CHECK(last.actor == "sender");
    CHECK(last.message == "request_data");
    CHECK(last.rid == rid_max);
    CHECK(last.attempt == ~0ull);
    CHECK(last.key == 19);
    CHECK(last.actor_id == 5);
    CHECK(last.peer_id == 6);
    CHECK(last.number == 4096);
    CHECK(last.what == trace::instant::dequeued);
}

TEST_CASE(
    "trace recording: a file that ends anywhere gives the batches before the end, and says so") {
    const auto whole = sample();
    std::size_t before = 0;
    for (std::size_t size = 12; size < whole.size(); ++size) {
        auto x = read({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
        REQUIRE(x);
        CHECK(x->problems.size() == 1);
        CHECK(x->events.size() % events_per_batch == 0);
        CHECK(x->events.size() >= before);
        before = x->events.size();
    }
    CHECK(before == batches * events_per_batch);
    for (std::size_t size = 0; size < 12; ++size)
        CHECK_FALSE(read({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}));
}

TEST_CASE("trace recording: a killed process leaves a recording whose end is missing") {
    auto x = read(sample(false));
    REQUIRE(x);
    REQUIRE(x->problems.size() == 1);
    CHECK(contains(x->problems[0], "the end is missing"));
    CHECK(x->events.size() == batches * events_per_batch);
}

TEST_CASE("trace recording: a damaged byte costs at most its block, and is told") {
    const auto whole = sample();
    for (std::size_t place = 0; place < whole.size(); ++place) {
        auto broken = whole;
        broken[place] ^= std::byte{0x10};
        auto x = read(broken);
        CAPTURE(place);
        if (place < 12) {
            CHECK_FALSE(x);
            continue;
        }
        REQUIRE(x);
        CHECK((!x->problems.empty() || x->events.size() == batches * events_per_batch));
    }
}

TEST_CASE("trace recording: bytes without sense are survived") {
    std::mt19937_64 random{7};
    const auto whole = sample();
    for (int round = 0; round < 3000; ++round) {
        auto broken = whole;
        const auto changes = 1 + random() % 40;
        for (std::uint64_t i = 0; i < changes; ++i)
            broken[12 + random() % (broken.size() - 12)] = static_cast<std::byte>(random());
        auto x = read(broken);
        REQUIRE(x);
        CHECK(x->events.size() <= batches * events_per_batch);
    }
}

TEST_CASE("trace recording: another version and another file are refused by name") {
    auto other = sample();
    other[8] = std::byte{9};
    auto x = read(other);
    REQUIRE_FALSE(x);
    CHECK(contains(text_of(x.error()), "version 9"));
    CHECK(contains(text_of(x.error()), "this program reads 1"));
    auto foreign = read(bytes(100, std::byte{'x'}));
    REQUIRE_FALSE(foreign);
    CHECK(contains(text_of(foreign.error()), "is not a kvferry recording"));
}

TEST_CASE("trace: durations are in the unit in which a person reads them") {
    for (auto [ns, text] : {std::pair{std::int64_t{950}, "950 ns"},
                            {12'345, "12.3 us"},
                            {12'345'678, "12.3 ms"},
                            {9'900'000'000, "9.90 s"},
                            {12'345'678'900, "12.3 s"},
                            {118'948'900'000, "119 s"},
                            {3'725'000'000'000, "62 min 5 s"},
                            {-12'345'678, "-12.3 ms"}})
        CHECK(tracing::duration_text(ns) == text);
}
