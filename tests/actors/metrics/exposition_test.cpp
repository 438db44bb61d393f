// SPDX-License-Identifier: Apache-2.0
// The text that Prometheus reads, line by line.
#include "actors/metrics/exposition.hpp"
#include "actors/metrics/rank_exposition.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

namespace kvferry::testing {

using kind = exposition::kind;

TEST_CASE("exposition: a family, its samples, and label values of any text") {
    exposition out;
    out.family("a_total", kind::counter, "Help.");
    out.sample({}, 3);
    out.sample({{"x", "say \"a\\b\"\n"}, {"y", "2"}}, 0.25);
    CHECK(out.text()
          == "# HELP a_total Help.\n# TYPE a_total counter\na_total 3\n"
             "a_total{x=\"say \\\"a\\\\b\\\"\\n\",y=\"2\"} 0.25\n");
}

TEST_CASE("exposition: buckets of a histogram add up, and the last one has all") {
    duration_histogram times;
    times.add(std::chrono::microseconds{10});
    times.add(std::chrono::microseconds{11});
    times.add(std::chrono::seconds{200});
    times.add(std::chrono::nanoseconds{-5});
    exposition out;
    out.family("t_seconds", kind::histogram, "Help.");
    out.histogram({{"x", "1"}}, times);
    const auto& text = out.text();
    CHECK(contains(text, "t_seconds_bucket{x=\"1\",le=\"1e-05\"} 2\n"));
    CHECK(contains(text, "t_seconds_bucket{x=\"1\",le=\"3.2e-05\"} 3\n"));
    CHECK(contains(text, "t_seconds_bucket{x=\"1\",le=\"100\"} 3\n"));
    CHECK(contains(text, "t_seconds_bucket{x=\"1\",le=\"+Inf\"} 4\n"));
    CHECK(contains(text, "t_seconds_sum{x=\"1\"} 200.000021\n"));
    CHECK(contains(text, "t_seconds_count{x=\"1\"} 4\n"));
}

TEST_CASE(
    "exposition: OpenMetrics has total in the samples only, an end, and exemplars of buckets") {
    duration_histogram times;
    times.add(std::chrono::microseconds{10});
    times.add(std::chrono::milliseconds{50}, {7, 0x4bf92f3577b34da6, 0xa3ce929d0e0e4736});
    times.add(std::chrono::milliseconds{60}, {8}); // the first one after each look stays
    times.add(std::chrono::seconds{200}, {9});
    const auto text_of = [&](exposition::format as) {
        exposition out{as};
        out.family("a_total", kind::counter, "Help.");
        out.sample({}, 3);
        out.family("t_seconds", kind::histogram, "Help.");
        out.histogram({}, times);
        return out.text();
    };
    const auto plain = text_of(exposition::format::prometheus);
    CHECK_FALSE(contains(plain, "rid"));
    const auto text = text_of(exposition::format::open_metrics);
    CHECK(text.starts_with("# HELP a Help.\n# TYPE a counter\na_total 3\n"));
    CHECK(text.ends_with("\n# EOF\n"));
    CHECK(contains(text, "t_seconds_bucket{le=\"1e-05\"} 1\n"));
    CHECK(contains(text, "t_seconds_bucket{le=\"0.1\"} 3 # "
                         "{trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\",rid=\"7\"} 0.05 "));
    CHECK(contains(text, "t_seconds_bucket{le=\"+Inf\"} 4 # {rid=\"9\"} 200 "));
    // The newest stays until there is another one.
    CHECK(text_of(exposition::format::open_metrics) == text);
    times.add(std::chrono::milliseconds{70}, {10});
    CHECK(contains(text_of(exposition::format::open_metrics), "{rid=\"10\"} 0.07 "));
}

TEST_CASE("exemplar: writers and readers on several threads never see half of one") {
    exemplar_slot slot;
    std::atomic<bool> over{false};
    std::vector<std::thread> writers;
    for (std::uint64_t writer = 1; writer <= 2; ++writer)
        writers.emplace_back([&, writer] {
            for (std::uint64_t rid = writer; !over; rid += 2)
                slot.offer({rid, rid, rid}, std::chrono::nanoseconds{rid});
        });
    std::size_t halves = 0;
    for (std::size_t seen = 0; seen < 20'000;)
        if (const auto one = slot.look()) {
            ++seen;
            const auto& x = one->request;
            halves += x.rid != x.trace_high || x.rid != x.trace_low
                      || x.rid != static_cast<std::uint64_t>(one->value.count());
        }
    over = true;
    for (auto& each : writers)
        each.join();
    CHECK(halves == 0);
}

TEST_CASE("rank exposition: what is counted once is shown once, with instance, rank and side") {
    auto counters = std::make_shared<rank_counters>("decode/1");
    counters->add(side::generation, session_count::opened);
    counters->ended(side::generation, errc::link_lost, {}, {});
    counters->piece(side::context, route::mapped, 4096, 7);
    counters->refused(side::context, errc::limit_exceeded);
    counters->add(ignored::duplicate, 3);
    counters->ignore(errc::malformed_message);
    counters->add(retried::link);
    counters->took(side::context, stage::copy, std::chrono::milliseconds{2});
    counters->phase = rank_phase::published;
    const auto text = exposition_of({"1.2.3", 5, 1024, 0.5, 4096, 100},
                                    {{"decode", "1", counters, 4, 2, {{"loop", {}, 3, 2, 1}}}});
    const auto rank = std::string{"kv_instance=\"decode\",rank=\"1\""};
    for (const auto& line : {"kvferry_build_info{version=\"1.2.3\"} 1", "process_open_fds 5"})
        CHECK(contains(text, std::string{line} + "\n"));
    for (const auto& [name, labels, value] :
         std::initializer_list<std::tuple<const char*, const char*, const char*>>{
             {"kvferry_sessions_opened_total", ",side=\"generation\"", "1"},
             {"kvferry_sessions_opened_total", ",side=\"context\"", "0"},
             {"kvferry_sessions_ended_total", ",side=\"generation\",errc=\"link_lost\"", "1"},
             {"kvferry_transferred_bytes_total", ",side=\"context\",route=\"mapped\"", "4096"},
             {"kvferry_transferred_fragments_total", ",side=\"context\",route=\"mapped\"", "7"},
             {"kvferry_requests_refused_total", ",side=\"context\",errc=\"limit_exceeded\"", "1"},
             {"kvferry_messages_ignored_total", ",reason=\"duplicate\"", "3"},
             {"kvferry_messages_ignored_total", ",reason=\"malformed_message\"", "1"},
             {"kvferry_retries_total", ",what=\"link\"", "1"},
             {"kvferry_rank_phase", ",phase=\"published\"", "1"},
             {"kvferry_rank_phase", ",phase=\"draining\"", "0"},
             {"kvferry_host_calls_waiting", "", "4"},
             {"kvferry_loop_wakes_total", ",loop=\"loop\"", "2"},
             {"kvferry_stage_seconds_count", ",side=\"context\",stage=\"copy\"", "1"}})
        CHECK_MESSAGE(contains(text, std::string{name} + "{" + rank + labels + "} " + value + "\n"),
                      name);
    CHECK_FALSE(contains(text, "side=\"generation\",stage=\"copy\""));
}

TEST_CASE("rank exposition: all samples of a family stand together, each series once") {
    auto counters = std::make_shared<rank_counters>();
    const auto text =
        exposition_of({}, {{"a", "0", counters, 0, 0, {}}, {"a", "1", counters, 0, 0, {}}});
    std::istringstream lines{text};
    std::set<std::string> families;
    std::set<std::string> series;
    std::string family;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("# HELP ")) {
            family = line.substr(7, line.find(' ', 7) - 7);
            CHECK(families.insert(family).second);
        } else if (!line.starts_with("#")) {
            CHECK(line.starts_with(family));
            CHECK(series.insert(line.substr(0, line.rfind(' '))).second);
        }
    }
    CHECK(families.size() > 20);
}

} // namespace kvferry::testing
