// SPDX-License-Identifier: Apache-2.0
// `kvferry trace why`: each kind of stall names the actor that must act, and the message.
#include "doctest/doctest.h"
#include "tests/contains.hpp"
#include "tests/trace_story.hpp"
#include "tools/trace/why.hpp"

#include <string>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tracing;

namespace {

/// Both sides as they were at this time.
std::vector<recording> until(std::int64_t us) {
    auto run = one_transfer();
    for (auto& side : run)
        std::erase_if(side.events, [us](const auto& x) { return x.time_ns > us * 1000; });
    return run;
}

struct stall {
    std::int64_t stops_after_us;
    const char* kind;
    const char* who;
    const char* what;
};

} // namespace

TEST_CASE(
    "trace why: wherever a transfer stops, the first wait names who must act on which message") {
    const stall stalls[] = {
        {0, "mailbox", "actor 11", "send_message"},
        {1, "handler", "generation/0 peer_link", "send_message"},
        {3, "wire", "the peer of generation/0 peer_link", "request_data"},
        {22, "handler", "context/0 peer_link", "frame_arrived"},
        {23, "mailbox", "actor 20", "request_data"},
        {24, "handler", "context/0 tx_session", "request_data"},
        {26, "mailbox", "actor 22", "start_copy"},
        {29, "operation", "context/0 copy_io", "copy (mapped)"},
        {41, "mailbox", "context/0 tx_session", "transfer_done"},
        {47, "wire", "generation/0 peer_link", "kv_agent_result"},
        {61, "handler", "generation/0 peer_link", "frame_arrived"},
        {63, "mailbox", "generation/0 rx_session", "kv_agent_result"},
        {64, "handler", "generation/0 rx_session", "kv_agent_result"},
    };
    for (const auto& x : stalls) {
        CAPTURE(x.stops_after_us);
        const auto waits = waits_of(join(until(x.stops_after_us)), 7);
        REQUIRE_FALSE(waits.empty());
        CHECK(waits[0].kind == x.kind);
        CHECK(waits[0].who == x.who);
        CHECK(waits[0].what == x.what);
    }
}

TEST_CASE("trace why: a session whose pages are not released waits for proof") {
    auto run = one_transfer();
    std::erase_if(run[0].events, [](const auto& x) { return x.message == "session_released"; });
    const auto waits = waits_of(join(run), 7);
    REQUIRE(waits.size() == 1);
    CHECK(waits[0].kind == "release");
    CHECK(waits[0].who == "generation/0 rx_session");
    CHECK(contains(waits[0].text, "proof that nobody touches its pages"));
}

TEST_CASE("trace why: a question without an answer names who was asked, and since when") {
    story x{"context", "here"};
    auto& asked = x.add(10, instant::asked, "receiver", 1, "connect_peer", 500, 7);
    asked.peer_id = 2;
    asked.number = 3;
    x.add(12, instant::dequeued, "transfer_worker", 2, "connect_peer", 500);
    x.add(13, instant::done, "transfer_worker", 2, "connect_peer", 500);
    x.add(1013, instant::dequeued, "transfer_worker", 2, "deadline_tick");
    x.add(1014, instant::done, "transfer_worker", 2, "deadline_tick");
    const auto waits = waits_of(join({x.get()}), 7);
    REQUIRE(waits.size() == 1);
    CHECK(waits[0].kind == "answer");
    CHECK(waits[0].who == "context/0 transfer_worker");
    CHECK(waits[0].now_ns - waits[0].since_ns == 1'004'000);
}

TEST_CASE("trace why: nothing is said of a request that is over, or unknown") {
    CHECK(waits_of(join(one_transfer()), 7).empty());
    CHECK(waits_of(join(one_transfer()), 8).empty());
}
