// SPDX-License-Identifier: Apache-2.0
// `kvferry trace why`: each kind of stall names the actor that must act, and the message.
#include "actors/host/loopback_world.hpp"
#include "actors/observe/trace_endpoint.hpp"
#include "doctest/doctest.h"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"
#include "tests/tools/trace/trace_story.hpp"
#include "tools/trace/live/why.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <string>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tracing;

namespace {

/// Both sides' recordings, cut off at this time.
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

/// One rank per side in one loopback world. It is asked and answers like a live process.
struct loopback_ranks {
    runtime system;
    trace::collector events;
    decltype(recording::events) past;
    worker_options options;
    cache_format format;
    std::optional<test_instance> context, generation;

    explicit loopback_ranks(memory_kind kind = memory_kind::host_shared) {
        events.collect(); // drops events of other tests
        options.world = std::make_shared<loopback_world>(system.system());
        format.layers = 2;
        format.kv_heads = 2;
        format.head_dim = 16;
        format.tokens_per_block = 8;
        context.emplace(system, "prefill", format, 1, 1, 3, options, kind);
        generation.emplace(system, "decode", format, 1, 1, 3, options, kind);
    }

    test_rank& source() { return context->ranks()[0]; }
    test_rank& target() { return generation->ranks()[0]; }

    std::vector<wait> waits() {
        auto run = recorded_since(events);
        past.insert(past.end(), run.events.begin(), run.events.end());
        run.events = past;
        for (auto [rank, name] : {std::pair{&source(), "prefill/0"}, {&target(), "decode/0"}}) {
            const auto said = trace_sessions(rank->transfers, name, rid{7});
            run.sessions.insert(run.sessions.end(), said.begin(), said.end());
        }
        run.ended = trace::ended_asked;
        return waits_of(join({std::move(run)}), 7);
    }
};

} // namespace

TEST_CASE("trace why: a host's callback that does not return is named") {
    std::promise<void> entered, let_go;
    loopback_ranks ranks;
    auto options = options_of(7);
    options.on_outcome = [&](const session_finished&) {
        entered.set_value();
        let_go.get_future().wait();
    };
    auto receiving = ranks.target().transfers.open_rx(options, {ranks.context->endpoint(), 0});
    receiving.receive(ranks.generation->slice(ranks.target()));
    auto sending = ranks.source().transfers.open_tx(options_of(7));
    sending.send(ranks.context->slice(ranks.source()));
    entered.get_future().wait();
    sending.released().get();
    const auto waits = ranks.waits();
    let_go.set_value();
    receiving.released().get();
    // Other actors may also be at the end of a handler now.
    CHECK(std::ranges::any_of(waits, [](const wait& x) {
        return x.kind == "handler" && x.who == "test callback_runner" && x.what == "run_callback";
    }));
}

TEST_CASE("trace why: a copy that waits for an event of the host is up to the copying actor") {
    std::atomic<bool> computed{false};
    loopback_ranks ranks{memory_kind::cuda};
    auto receiving =
        ranks.target().transfers.open_rx(options_of(7), {ranks.context->endpoint(), 0});
    receiving.receive(ranks.generation->slice(ranks.target()));
    auto sending = ranks.source().transfers.open_tx(options_of(7));
    sending.send(ranks.context->slice(ranks.source()), {&computed, nullptr});
    while (!contains(sending.status()->waits_for, "transfers to rank 0"))
        std::this_thread::yield(); // until the copy is requested
    const auto waits = ranks.waits();
    computed = true;
    receiving.released().get();
    sending.released().get();
    // Other actors may also be at the end of a handler now.
    CHECK(std::ranges::any_of(waits, [](const wait& x) {
        return x.who == "prefill/0 cuda_io"
               && (x.what == "1 transfers to rank 0" || x.kind == "operation");
    }));
}

TEST_CASE("trace why: being asked is not being heard of: a wait grows however often one looks") {
    loopback_ranks ranks;
    auto receiving =
        ranks.target().transfers.open_rx(options_of(7), {ranks.context->endpoint(), 0});
    receiving.receive(ranks.generation->slice(ranks.target()));
    const auto find = [&ranks] {
        const auto waits = ranks.waits();
        const auto mine = std::ranges::find_if(waits, [](const wait& x) {
            return contains(x.text, "decode/0 rx_session")
                   && contains(x.text, "reports of context rank 0");
        });
        return mine == waits.end() ? std::nullopt : std::optional{*mine};
    };
    while (!find())
        std::this_thread::yield(); // until it has asked its writer
    const auto lasts = [&find] {
        const auto mine = find();
        REQUIRE(mine);
        CHECK_FALSE(mine->longer);
        return std::chrono::nanoseconds{mine->now_ns - mine->since_ns};
    };
    for (int looks = 0; looks < 3; ++looks) {
        const auto lasted = lasts();
        const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds{50};
        while (std::chrono::steady_clock::now() < until)
            std::this_thread::yield();
        CHECK(lasts() >= lasted + std::chrono::milliseconds{50});
    }
    receiving.cancel();
    receiving.released().get();
}

TEST_CASE("trace why: a rank whose loop does not answer is named before all that waits for it") {
    std::promise<void> entered, let_go;
    loopback_ranks ranks;
    auto run = recorded_since(ranks.events);
    trace::session_record silent{"decode/0", "", "UNKNOWN", 7, 0, 1, 0, {}};
    silent.waits.push_back(
        {"the rank's loop, which has not answered for 500 ms", "transfer_worker", {}});
    trace::session_record sender{"prefill/0", "context", "INIT", 7, 0, 1, 0, {}};
    sender.waits.push_back({"request_data of rank 0", "rx_session", "decode/0"});
    run.sessions = {sender, silent};
    run.ended = trace::ended_asked;
    const auto waits = waits_of(join({std::move(run)}), 7);
    REQUIRE(waits.size() == 2);
    CHECK(waits[0].kind == "silence");
    CHECK(waits[0].who == "decode/0 transfer_worker");
}

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
