// SPDX-License-Identifier: Apache-2.0
// `kvferry trace check`: it reports nothing for sound runs, real ones included, and names planted
// flaws.
#include "actors/host/loopback_world.hpp"
#include "doctest/doctest.h"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"
#include "tests/tools/trace/perfetto_json.hpp"
#include "tests/tools/trace/trace_story.hpp"
#include "tools/trace/check.hpp"
#include "tools/trace/stats.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tracing;

namespace {

check_result check_of(std::vector<recording> x) {
    return check(join(std::move(x)));
}

std::string text_of(const check_result& x) {
    std::string result;
    for (const auto& finding : x.findings)
        result += finding.kind + ": " + finding.text + "\n";
    return result;
}

/// Removes the events for which `which` is true; it may also change events.
void erase(recording& from, const std::function<bool(const recorded_event&)>& which) {
    std::erase_if(from.events, which);
}

} // namespace

TEST_CASE("trace check: a sound run has no findings") {
    const auto x = check_of(one_transfer());
    CHECK_MESSAGE(x.ok(), text_of(x));
    CHECK(x.context_sessions == 1);
    CHECK(x.generation_sessions == 1);
}

TEST_CASE("trace check: a recording that a failure ended is a finding, with the failure") {
    auto run = one_transfer();
    run[0].ended = "rid 7 failed: no answer";
    const auto x = check_of(run);
    REQUIRE_FALSE(x.ok());
    CHECK(x.findings[0].kind == "failure");
    CHECK(contains(x.findings[0].text, "rid 7 failed: no answer"));
    for (auto in_order : {trace::ended_by_recorder, trace::ended_by_limit, trace::ended_by_process,
                          trace::ended_by_signal, trace::ended_asked, trace::ended_complete}) {
        run[0].ended = in_order;
        CHECK(check_of(run).ok());
    }
}

TEST_CASE("trace check: a message that nobody handled is named, with its sender and time") {
    auto run = one_transfer();
    erase(run[1],
          [](const auto& x) { return x.message == "start_copy" && x.what != instant::sent; });
    const auto x = check_of(run);
    REQUIRE(x.findings.size() == 1);
    CHECK(x.findings[0].kind == "message lost");
    CHECK(x.findings[0].rid == 7);
    CHECK(contains(x.findings[0].text, "start_copy from context/0 tx_session"));
}

TEST_CASE("trace check: what an actor drops when it ends is accounted for") {
    auto run = one_transfer();
    erase(run[1],
          [](const auto& x) { return x.message == "start_copy" && x.what != instant::sent; });
    auto end = run[1].events.back();
    end.what = instant::actor_ended;
    end.actor = "copy_io";
    end.actor_id = 22;
    run[1].events.push_back(end);
    const auto x = check_of(run);
    CHECK_MESSAGE(x.ok(), text_of(x));
    CHECK(x.accounted == 1);
}

TEST_CASE("trace check: a message between ranks that never came is named") {
    auto run = one_transfer();
    erase(run[0], [](const auto& x) { return x.what == instant::wire_received; });
    auto again = run[1].events[13];
    REQUIRE(again.what == instant::wire_sent);
    // The other direction proves that the other rank is recorded.
    auto x = check_of(run);
    CHECK(contains(text_of(x), "message lost: kv_agent_result from context/0 peer_link"));
}

TEST_CASE("trace check: a session that ends twice, never, or keeps its pages is named") {
    auto twice = one_transfer();
    auto end = twice[1].events[14];
    REQUIRE(end.message == "session_finished");
    twice[1].events.insert(twice[1].events.begin() + 15, end);
    auto x = check_of(twice);
    REQUIRE(x.findings.size() == 1);
    CHECK(x.findings[0].kind == "double end");
    CHECK(contains(x.findings[0].text, "context/0 tx_session of rid 7 told its outcome 2 times"));

    auto never = one_transfer();
    erase(never[0], [](const auto& y) { return y.message == "session_finished"; });
    x = check_of(never);
    REQUIRE(x.findings.size() == 1);
    CHECK(x.findings[0].kind == "no end");
    CHECK(contains(x.findings[0].text, "rx_session of rid 7"));

    auto kept = one_transfer();
    erase(kept[0], [](const auto& y) { return y.message == "session_released"; });
    x = check_of(kept);
    REQUIRE(x.findings.size() == 1);
    CHECK(x.findings[0].kind == "loan not returned");
}

TEST_CASE("trace check: an operation that ends twice or never is named") {
    auto never = one_transfer();
    erase(never[1], [](const auto& x) { return x.what == instant::io_end; });
    auto x = check_of(never);
    CHECK(contains(text_of(x), "no end: copy (mapped) of 4096 bytes at context/0 copy_io"));

    auto twice = one_transfer();
    const auto end = std::find_if(twice[1].events.begin(), twice[1].events.end(),
                                  [](const auto& y) { return y.what == instant::io_end; });
    twice[1].events.insert(end, *end);
    x = check_of(twice);
    CHECK(contains(text_of(x), "double end: copy (mapped) at context/0 copy_io"));
}

TEST_CASE(
    "trace check: actors that wait for each other's answers are named, in their circle only") {
    story x{"context", "here"};
    const auto ask = [&x](std::int64_t at, const char* from, std::uint32_t id, std::uint32_t to,
                          std::uint64_t number) {
        auto& asked = x.add(at, instant::asked, from, id, "connect_peer", 600 + number);
        asked.peer_id = to;
        asked.number = number;
        x.add(at + 1, instant::dequeued, "worker", to, "connect_peer", 600 + number);
        x.add(at + 2, instant::done, "worker", to, "connect_peer", 600 + number);
    };
    ask(0, "bystander", 9, 1, 1);
    ask(10, "first", 1, 2, 2);
    ask(20, "second", 2, 3, 3);
    ask(30, "third", 3, 1, 4);
    auto found = check_of({x.get()});
    REQUIRE(found.findings.size() == 1);
    CHECK(found.findings[0].kind == "cycle of waits");
    CHECK(contains(found.findings[0].text,
                   "third (actor 3) waits for the answer to connect_peer from actor 1"));
    CHECK_FALSE(contains(found.findings[0].text, "bystander"));

    x.add(40, instant::answered, "second", 2, "connect_peer").number = 3;
    found = check_of({x.get()});
    CHECK_MESSAGE(found.ok(), text_of(found));
}

TEST_CASE("trace check: a message without a sender, and an end without its beginning, are named") {
    auto unsent = one_transfer();
    erase(unsent[0], [](const auto& x) { return x.what == instant::wire_sent; });
    auto x = check_of(unsent);
    CHECK(contains(text_of(x), "orphan: request_data came to context/0 peer_link"));

    auto headless = one_transfer();
    erase(headless[1], [](const auto& y) {
        return y.message == "request_data" && y.actor == "tx_session"
               && y.what == instant::dequeued;
    });
    x = check_of(headless);
    CHECK(contains(text_of(x), "orphan: the end of request_data at context/0 tx_session"));
}

TEST_CASE(
    "trace check: gaps at the ends of a recording of a running process are counted, not reported") {
    for (std::int64_t from : {0, 3, 22, 26, 42, 61, 64})
        for (std::int64_t until : {30, 45, 63, 100}) {
            CAPTURE(from);
            CAPTURE(until);
            auto run = one_transfer();
            for (auto& side : run) {
                erase(side, [&](const auto& x) {
                    return x.time_ns < from * 1000 || x.time_ns > until * 1000;
                });
                side.joined_late = true;
                side.ended = "the recorder stopped";
            }
            const auto x = check_of(run);
            CHECK_MESSAGE(x.ok(), text_of(x));
            CHECK(x.cut <= 1);
        }
}

TEST_CASE("trace check: events that were overwritten are told, never silent") {
    auto run = one_transfer();
    run[0].threads[1].lost = 12;
    const auto x = check_of(run);
    CHECK(x.findings.empty());
    CHECK(x.lost_events == 12);
    CHECK_FALSE(x.ok());
}

namespace {

/// Five requests between two instances of two ranks each, by UCX or over the loopback twins.
recording real_transfers(bool loopback) {
    trace::collector events;
    events.collect(); // drops events of other tests
    {
        runtime system;
        worker_options options;
        options.bounds.session_deadline = std::chrono::seconds{20};
        if (loopback)
            options.world = std::make_shared<loopback_world>(system.system());
        cache_format format;
        format.layers = 4;
        format.kv_heads = 4;
        format.head_dim = 16;
        format.tokens_per_block = 8;
        test_instance context{system, "prefill", format, 2, 1, 6, options};
        test_instance generation{system, "decode", format, 1, 2, 6, options};
        context.fill();
        for (std::uint64_t number = 1; number <= 5; ++number) {
            test_request request;
            for (auto& rank : context.ranks()) {
                auto session = rank.transfers.open_tx(options_of(number));
                session.send(context.slice(rank));
                request.sending.push_back(session);
            }
            for (auto& rank : generation.ranks()) {
                auto session = rank.transfers.open_rx(options_of(number), {context.endpoint(), 0});
                session.receive(generation.slice(rank));
                request.receiving.push_back(session);
            }
            request.expect(session_state::kv_transferred);
        }
        CHECK(generation.wrong_bytes() == 0);
    }
    return recorded_since(events);
}

} // namespace

TEST_CASE(
    "trace check: real transfers are sound, joined across their ranks, and their stages sum up") {
    for (bool loopback : {true, false}) {
        CAPTURE(loopback);
        const auto run = join({real_transfers(loopback)});
        const auto found = check(run);
        CHECK_MESSAGE(found.ok(), text_of(found));
        CHECK(found.context_sessions == 10);
        CHECK(found.generation_sessions == 10);
        const auto numbers = statistics_of(run);
        CHECK(numbers.joined() == 5);
        CHECK(numbers.explained >= 4); // the first request also makes the links
        for (const auto& request : numbers.requests) {
            std::int64_t sum = 0;
            for (const auto& part : request.stages)
                sum += part.ns;
            CHECK(sum == request.total_ns);
            CHECK(request.bytes > 0);
        }
        CHECK(problems_of_perfetto(perfetto_json(run)).empty());
        for (const auto& x : run.lanes)
            if (x.actor == "tx_session")
                CHECK(x.rank.starts_with("prefill/"));
    }
}

TEST_CASE("trace check: a flaw that is planted anywhere in a recording of real transfers is named, "
          "with its message and request") {
    const auto sound = real_transfers(true);
    /// What a flaw does to one event, and what the check must report.
    struct flaw {
        const char* kind;
        std::function<bool(const step&)> at;
        bool twice; ///< true: repeats the event; false: removes it
    };
    const auto is = [](instant what, const char* message = nullptr) {
        return [what, message](const step& x) {
            return x.what == what && (!message || x.message == message);
        };
    };
    const auto joined = join({sound});
    // A later message of the same thread was handled: the actor's end does not explain this loss.
    const auto overtaken = [&](const step& x) {
        return x.what == instant::dequeued && x.cause != no_step
               && std::any_of(joined.steps.begin(), joined.steps.end(), [&](const step& y) {
                      return y.what == instant::dequeued && y.cause != no_step
                             && y.actor_id == x.actor_id
                             && joined.steps[y.cause].thread == joined.steps[x.cause].thread
                             && joined.steps[y.cause].time_ns > joined.steps[x.cause].time_ns;
                  });
    };
    const flaw flaws[] = {
        {"message lost", overtaken, false},
        {"message lost",
         [](const step& x) {
             return x.what == instant::wire_received && x.cause != no_step && x.rid != 0;
         },
         false},
        {"orphan",
         [](const step& x) { return x.what == instant::wire_sent && x.effect != no_step; }, false},
        {"no end", is(instant::io_end), false},
        {"double end", is(instant::io_begin), false},
        {"double end", is(instant::io_end), true},
        {"no end", is(instant::sent, "session_finished"), false},
        {"double end", is(instant::sent, "session_finished"), true},
        {"loan not returned", is(instant::sent, "session_released"), false},
        {"double end", is(instant::sent, "session_released"), true},
    };
    for (const auto& x : flaws) {
        std::vector<const step*> places;
        for (const auto& y : joined.steps)
            if (x.at(y) && (y.rid != 0 || y.what == instant::wire_sent))
                places.push_back(&y);
        REQUIRE(places.size() >= 10);
        for (std::size_t i = 0; i < places.size(); i += places.size() / 10) {
            const auto& place = *places[i];
            auto broken = sound;
            const auto same = [&](const recorded_event& y) {
                return y.what == place.what && y.thread == place.thread
                       && y.actor_id == place.actor_id && y.key == place.key
                       && y.message == place.message
                       && y.time_ns == place.time_ns + joined.start_ns;
            };
            const auto found = std::find_if(broken.events.begin(), broken.events.end(), same);
            REQUIRE(found != broken.events.end());
            if (x.twice)
                broken.events.insert(found, *found);
            else
                broken.events.erase(found);
            const auto verdict = check_of({std::move(broken)});
            CAPTURE(x.kind);
            CAPTURE(std::string{place.message});
            CHECK_MESSAGE(
                std::any_of(verdict.findings.begin(), verdict.findings.end(),
                            [&](const finding& y) {
                                return y.kind == x.kind
                                       && (y.rid == place.rid
                                           || contains(y.text, std::string{place.message}));
                            }),
                text_of(verdict));
        }
    }
}
