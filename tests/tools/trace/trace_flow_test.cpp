// SPDX-License-Identifier: Apache-2.0
// One transfer recorded by two processes: order, causes, requests, stages, and exported files.
#include "doctest/doctest.h"
#include "tests/support/contains.hpp"
#include "tests/tools/trace/perfetto_json.hpp"
#include "tests/tools/trace/trace_story.hpp"
#include "tools/trace/diff.hpp"
#include "tools/trace/flow.hpp"
#include "tools/trace/pictures/page.hpp"
#include "tools/trace/pictures/pictures.hpp"
#include "tools/trace/stats.hpp"

#include <algorithm>
#include <string>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tracing;

namespace {

std::uint64_t effects_before_causes(const flow& x) {
    return static_cast<std::uint64_t>(
        std::count_if(x.steps.begin(), x.steps.end(), [&](const step& y) {
            return y.cause != no_step && x.steps[y.cause].time_ns > y.time_ns;
        }));
}

} // namespace

TEST_CASE("trace flow: no effect precedes its cause, however far the clocks are apart") {
    for (std::int64_t skew : {-3'000'000'000ll, -15'000ll, 0ll, 15'000ll, 7'000'000'000'000ll})
        for (const char* machine : {"here", "there"}) {
            CAPTURE(skew);
            CAPTURE(machine);
            const auto x = join(one_transfer(skew, machine));
            CHECK(effects_before_causes(x) == 0);
            const auto received = std::find_if(x.steps.begin(), x.steps.end(), [](const step& y) {
                return y.what == instant::wire_received && y.message == "request_data";
            });
            REQUIRE(received != x.steps.end());
            REQUIRE(received->cause != no_step);
            CHECK(x.steps[received->cause].message == "request_data");
            CHECK(x.lanes[received->lane].text() == "context/0 peer_link");
        }
}

TEST_CASE("trace flow: clocks of one machine that agree are left alone") {
    CHECK(join(one_transfer(0)).offsets_ns == std::vector<std::int64_t>{0, 0});
    CHECK(join(one_transfer(-1'000'000)).offsets_ns[1] > 900'000);
}

TEST_CASE("trace flow: steps whose message names no request belong to the one they were done for") {
    const auto x = join(one_transfer());
    for (const auto& y : x.steps) {
        CAPTURE(std::string{y.message});
        CHECK(y.rid == 7);
    }
}

TEST_CASE("trace flow: one mailbox address that is used again names another message") {
    story one{"context", "here"};
    one.tell(0, "sender", 1, "receiver", 2, "first", 500);
    one.tell(10, "sender", 1, "receiver", 2, "second", 500);
    const auto x = join({one.get()});
    for (const auto& y : x.steps)
        if (y.what == instant::dequeued) {
            REQUIRE(y.cause != no_step);
            CHECK(x.steps[y.cause].message == y.message);
        }
}

TEST_CASE("trace flow: an address used again by a sender whose time is earlier counts as no loss") {
    story one{"context", "here"};
    one.add(0, instant::sent, "sender", 1, "first", 500).peer_id = 2;
    one.add(1, instant::sent, "other", 3, "second", 500).peer_id = 4;
    one.add(2, instant::dequeued, "receiver", 2, "first", 500);
    one.add(3, instant::done, "receiver", 2, "first", 500);
    one.add(4, instant::dequeued, "worker", 4, "second", 500);
    const auto x = join({one.get()});
    for (const auto& y : x.steps)
        if (y.what == instant::dequeued) {
            REQUIRE(y.cause != no_step);
            CHECK(x.steps[y.cause].message == y.message);
        }
}

TEST_CASE("trace stats: a request's stages sum up to its way, and the copy is one of them") {
    const auto numbers = statistics_of(join(one_transfer()));
    CHECK(numbers.joined() == 1);
    REQUIRE(numbers.requests.size() == 1);
    const auto& request = numbers.requests[0];
    CHECK(request.bytes == 4096);
    CHECK(request.total_ns == 65'000);
    CHECK(request.unexplained_ns == 0);
    std::int64_t sum = 0, copied = 0;
    for (const auto& part : request.stages) {
        sum += part.ns;
        if (part.name == "copy (mapped)")
            copied = part.ns;
    }
    CHECK(sum == request.total_ns);
    CHECK(copied == 12'000);
    const auto row =
        std::find_if(numbers.messages.begin(), numbers.messages.end(), [](const auto& y) {
            return y.actor == "tx_session" && y.message == "request_data";
        });
    REQUIRE(row != numbers.messages.end());
    CHECK(row->mailbox_wait.p50_ns == 2000);
    CHECK(row->work.max_ns == 2000);
}

TEST_CASE("trace stats: a request that waited for a link, whose events name no request, says so") {
    auto run = one_transfer();
    story before{"generation", "here"};
    before.add(-100, instant::sent, "host", 0, "open_rx", 90, 7);
    before.add(-10, instant::sent, "peer_link", 11, "peer_ready", 91, 0).peer_id = 10;
    before.add(-8, instant::dequeued, "rx_session", 10, "peer_ready", 91, 0);
    before.get().events.push_back(run[0].events[0]); // the request is sent in that handler
    before.add(0, instant::done, "rx_session", 10, "peer_ready", 91, 0);
    auto& events = run[0].events;
    events.erase(events.begin());
    events.insert(events.begin(), before.get().events.begin(), before.get().events.end());
    const auto numbers = statistics_of(join(run));
    REQUIRE(numbers.requests.size() == 1);
    const auto& request = numbers.requests[0];
    CHECK(request.total_ns == 165'000);
    CHECK(request.unexplained_ns == 0);
    CHECK(std::ranges::any_of(request.stages, [](const auto& part) {
        return part.name == "link, until its peer_ready" && part.ns == 90'000;
    }));
}

TEST_CASE("trace stats: percentiles are values that occurred") {
    std::vector<std::int64_t> values;
    for (std::int64_t i = 200; i > 0; --i)
        values.push_back(i);
    const auto x = spread_of(values);
    CHECK(x.p50_ns == 100);
    CHECK(x.p99_ns == 198);
    CHECK(x.max_ns == 200);
}

TEST_CASE("trace pictures: a request is drawn once, with the actors of both ranks") {
    const auto x = join(one_transfer());
    const auto text = sequence_text(x, 7);
    CHECK(contains(text, "generation/0"));
    CHECK(contains(text, " tx "));
    CHECK(contains(text, "copy (mapped) 4096 B"));
    CHECK(contains(sequence_text(x, 8), "no message of rid 8"));
    const auto mermaid = sequence_mermaid(x, 7);
    CHECK(mermaid.starts_with("sequenceDiagram\n"));
    CHECK(contains(mermaid, "request_data"));
    CHECK(contains(event_lines(x, 7), "=> request_data to context/0 peer_link"));
}

TEST_CASE("trace pictures: a chart fits a terminal, however many ranks take part") {
    for (std::uint32_t ranks : {1u, 2u, 5u, 16u, 64u}) {
        CAPTURE(ranks);
        auto run = one_transfer();
        for (std::uint32_t rank = 1; rank < ranks; ++rank) {
            auto other = one_transfer()[1];
            other.program = "context/" + std::to_string(rank);
            other.threads[1].rank = "generous-name/" + std::to_string(rank);
            for (auto& x : other.events)
                x.key += 100'000 * rank;
            run.push_back(std::move(other));
        }
        const auto text = sequence_text(join(std::move(run)), 7);
        for (std::size_t at = 0; at < text.size();) {
            const auto end = text.find('\n', at);
            CHECK(end - at <= 120);
            at = end + 1;
        }
        CHECK(contains(text, "copy (mapped) 4096 B"));
        CHECK((ranks >= 16 || contains(text, "/" + std::to_string(ranks - 1))));
    }
}

TEST_CASE(
    "trace perfetto: every flow has its start and its end, every event what the format asks for") {
    const auto file = perfetto_json(join(one_transfer()));
    CHECK(problems_of_perfetto(file) == std::vector<std::string>{});
    auto broken = file;
    auto& events = broken["traceEvents"];
    const auto arrow =
        std::find_if(events.begin(), events.end(), [](const auto& y) { return y["ph"] == "f"; });
    REQUIRE(arrow != events.end());
    auto moved = broken;
    moved["traceEvents"][static_cast<std::size_t>(arrow - events.begin())]["ts"] = 1e9;
    CHECK(problems_of_perfetto(moved).size() == 1); // the arrow would not be drawn
    events.erase(arrow);
    CHECK(problems_of_perfetto(broken).size() == 1);
}

TEST_CASE(
    "trace diff: runs that differ in time only are equal; else the first difference is told") {
    const auto first = join(one_transfer());
    CHECK(differences_of(first, join(one_transfer(-5000))).empty());

    auto other = one_transfer();
    for (auto& x : other[1].events)
        if (x.message == "transfer_done")
            x.message = "transfer_failed";
    auto found = differences_of(first, join(std::move(other)));
    REQUIRE(found.size() == 1);
    CHECK(found[0].rid == 7);
    CHECK(found[0].who == "context/0 tx_session");
    CHECK(found[0].after == 1);
    CHECK(found[0].first == "transfer_done");
    CHECK(found[0].second == "transfer_failed");

    auto shorter = one_transfer();
    std::erase_if(shorter[0].events, [](const auto& x) { return x.time_ns > 63'000; });
    found = differences_of(first, join(std::move(shorter)));
    REQUIRE(found.size() == 1);
    CHECK(found[0].second == "nothing");

    auto foreign = one_transfer();
    for (auto& side : foreign)
        for (auto& x : side.events)
            x.rid = x.rid ? 8 : 0;
    found = differences_of(first, join(std::move(foreign)));
    CHECK(found.size() == 2);
    CHECK(contains(text_of(found), "rid 7"));
}

TEST_CASE("trace page: it needs no network, and no text of a run can end its data") {
    auto from = one_transfer();
    from[0].program = "</script><script>alert(1)";
    from[0].threads[1].rank = from[0].program;
    const auto page = page_of(join(std::move(from)));
    CHECK_FALSE(contains(page, "http"));
    CHECK_FALSE(contains(page, "alert(1)<"));
    CHECK_FALSE(contains(page, "</script><script>alert"));
    CHECK(contains(page, "request_data"));
}
