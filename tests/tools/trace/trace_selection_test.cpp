// SPDX-License-Identifier: Apache-2.0
// Parts of a run, and a run as spans.
#include "messages/values/trace_parent.hpp"
#include "tests/support/contains.hpp"
#include "tests/tools/trace/perfetto_json.hpp"
#include "tests/tools/trace/trace_story.hpp"
#include "tools/common/packed_file.hpp"
#include "tools/trace/otlp/http_post.hpp"
#include "tools/trace/otlp/otlp.hpp"
#include "tools/trace/pictures/page.hpp"
#include "tools/trace/selection.hpp"
#include "tools/trace/stats.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

namespace kvferry::tracing {

namespace {

/// Neighbours are steps of the same run, and each has the other.
void check_whole(const flow& run) {
    for (std::size_t i = 0; i < run.steps.size(); ++i) {
        const auto& x = run.steps[i];
        for (auto neighbour : {x.cause, x.effect, x.answer, x.handler})
            if (neighbour != no_step)
                REQUIRE(neighbour < run.steps.size());
        if (x.effect != no_step)
            CHECK(run.steps[x.effect].cause == i);
    }
}

/// All spans of all bodies.
std::vector<nlohmann::json> spans_of(const std::vector<nlohmann::json>& bodies) {
    std::vector<nlohmann::json> result;
    for (const auto& body : bodies)
        for (const auto& resource : body.at("resourceSpans"))
            for (const auto& scope : resource.at("scopeSpans"))
                for (const auto& span : scope.at("spans"))
                    result.push_back(span);
    return result;
}

} // namespace

TEST_CASE("trace selection: one request's steps, with their neighbours") {
    const auto all = join(testing::one_transfer());
    const auto rid = statistics_of(all).requests.at(0).rid;
    const auto part = select(all, {.rid = rid});
    CHECK(part.steps.size() <= all.steps.size());
    CHECK_FALSE(part.steps.empty());
    for (const auto& x : part.steps)
        CHECK(x.rid == rid);
    check_whole(part);
    CHECK(problems_of_perfetto(perfetto_json(part)) == std::vector<std::string>{});
    CHECK(select(all, {.rid = rid + 1000}).steps.empty());
    CHECK(select(all, {}).steps.size() == all.steps.size());
    CHECK(select(all, {.slowest = 1}).steps.size() == part.steps.size());
}

TEST_CASE("trace selection: a stretch of time") {
    const auto all = join(testing::one_transfer());
    const auto middle = all.steps[all.steps.size() / 2].time_ns;
    const auto late = select(all, {.from_ns = middle});
    const auto early = select(all, {.to_ns = middle});
    check_whole(late);
    check_whole(early);
    CHECK(late.steps.front().time_ns >= middle);
    CHECK(early.steps.back().time_ns <= middle);
    CHECK(late.steps.size() + early.steps.size() >= all.steps.size());
    CHECK(problems_of_perfetto(perfetto_json(late)) == std::vector<std::string>{});
}

TEST_CASE("trace stats: the critical path goes forward in time and ends at the outcome") {
    const auto run = join(testing::one_transfer());
    const auto path = statistics_of(run).requests.at(0).path;
    REQUIRE(path.size() > 2);
    for (std::size_t i = 1; i < path.size(); ++i)
        CHECK(run.steps[path[i - 1]].time_ns <= run.steps[path[i]].time_ns);
    CHECK(run.steps[path.back()].message == "session_finished");
    CHECK(kvferry::testing::contains(page_of(run), "\"path\":["));
}

TEST_CASE("trace perfetto: an arrow has the name of its message") {
    const auto file = perfetto_json(join(testing::one_transfer()));
    std::set<std::string> arrows;
    for (const auto& x : file.at("traceEvents"))
        if (x.at("ph") == "s" || x.at("ph") == "f")
            arrows.insert(x.at("name").get<std::string>());
    CHECK(arrows.contains("request_data"));
    CHECK_FALSE(arrows.contains("message"));
}

TEST_CASE("trace otlp: a session is a span of its rank, the context's below the generation's") {
    auto run = join(testing::one_transfer());
    const auto spans = spans_of(otlp_of(run));
    std::set<std::string> ids;
    nlohmann::json receive;
    nlohmann::json send;
    for (const auto& x : spans) {
        CHECK(x.at("traceId").get<std::string>().size() == 32);
        CHECK(x.at("spanId").get<std::string>().size() == 16);
        CHECK(ids.insert(x.at("spanId")).second);
        CHECK(std::stoll(x.at("startTimeUnixNano").get<std::string>())
              <= std::stoll(x.at("endTimeUnixNano").get<std::string>()));
        if (x.at("name") == "kvferry receive")
            receive = x;
        if (x.at("name") == "kvferry send")
            send = x;
    }
    REQUIRE_FALSE(receive.is_null());
    REQUIRE_FALSE(send.is_null());
    CHECK_FALSE(receive.contains("parentSpanId"));
    CHECK(send.at("parentSpanId") == receive.at("spanId"));
    CHECK(otlp_of(run) == otlp_of(run));

    const auto parent =
        parse_trace_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    run.recordings.front().joined.push_back({statistics_of(run).requests.at(0).rid, *parent});
    for (const auto& x : spans_of(otlp_of(run))) {
        CHECK(x.at("traceId") == "4bf92f3577b34da6a3ce929d0e0e4736");
        if (x.at("name") == "kvferry receive")
            CHECK(x.at("parentSpanId") == "00f067aa0ba902b7");
    }
}

TEST_CASE("trace otlp: where a collector is") {
    const auto short_form = parse_http_target("http://collector");
    REQUIRE(short_form);
    CHECK(short_form->server == info_endpoint{"collector", 4318});
    CHECK(short_form->path == "/v1/traces");
    const auto long_form = parse_http_target("http://[::1]:80/otlp/v1/traces");
    REQUIRE(long_form);
    CHECK(long_form->server == info_endpoint{"::1", 80});
    CHECK(long_form->path == "/otlp/v1/traces");
    for (const auto* text : {"", "https://collector", "http://", "http://[a]", "http://a:b",
                             "http://a:0", "http://a:65536", "http://a b"})
        CHECK_FALSE_MESSAGE(parse_http_target(text), text);
}

TEST_CASE("packed file: gzip reads what was written; a folder that is not there shows in close()") {
    const auto path = std::filesystem::temp_directory_path()
                      / ("kvferry-packed-" + std::to_string(::getpid()) + ".gz");
    std::string text;
    for (int i = 0; i < 100'000; ++i)
        text += std::to_string(i) + "\n";
    {
        tools::packed_file file{path.string()};
        file.stream() << text;
        CHECK(file.close());
    }
    CHECK(std::filesystem::file_size(path) < text.size() / 2);
    auto* unpacked = ::popen(("gzip -dc " + path.string()).c_str(), "r");
    REQUIRE(unpacked != nullptr);
    std::string back;
    std::array<char, 4096> bytes;
    for (std::size_t count = 0; (count = std::fread(bytes.data(), 1, bytes.size(), unpacked)) > 0;)
        back.append(bytes.data(), count);
    CHECK(::pclose(unpacked) == 0);
    CHECK(back == text);
    std::filesystem::remove(path);
    tools::packed_file nowhere{"/nowhere/at/all.gz"};
    nowhere.stream() << text;
    CHECK_FALSE(nowhere.close());
}

} // namespace kvferry::tracing
