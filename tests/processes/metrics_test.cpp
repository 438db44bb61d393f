// SPDX-License-Identifier: Apache-2.0
// Two workers watched as an operator would: their probes, a real Prometheus that scrapes both, and
// every query of the dashboard. What needs Prometheus is a suite of its own, which only the ctest
// `prometheus` runs; it says "skipped: " where that is not installed.
#include "tests/processes/end_to_end.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/http_get.hpp"
#include "tests/support/other_program.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>

namespace kvferry::testing {

namespace {

namespace fs = std::filesystem;

std::string text_of_file(const fs::path& path) {
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
}

std::string metrics_of(rank_process& rank) {
    return rank.ready().at("metrics");
}

std::string escaped(const std::string& text) {
    std::string result;
    for (unsigned char x : text) {
        char code[4];
        std::snprintf(code, sizeof code, "%%%02X", x);
        result += code;
    }
    return result;
}

/// What Prometheus answers; throws when it refuses.
json data_of_prometheus(const std::string& endpoint, const std::string& target) {
    const auto reply = http_get(endpoint, "/api/v1/" + target);
    auto body = reply.body;
    if (contains(reply.head, "chunked")) { // length in hexadecimal, CR LF, bytes, CR LF, ..., 0
        std::string whole;
        for (std::size_t at = 0;;) {
            const auto length = std::stoul(body.substr(at), nullptr, 16);
            if (length == 0)
                break;
            at = body.find("\r\n", at) + 2;
            whole += body.substr(at, length);
            at += length + 2;
        }
        body = whole;
    }
    const auto answer = json::parse(body);
    if (answer.at("status") != "success")
        throw std::runtime_error{target + ": " + body};
    return answer.at("data");
}

json ask_prometheus(const std::string& endpoint, const std::string& query) {
    return data_of_prometheus(endpoint, "query?query=" + escaped(query)).at("result");
}

/// Asks until one exemplar of that metric has these labels; 60 s at most.
bool has_exemplar(const std::string& endpoint, const std::string& metric, const json& labels) {
    const auto until = std::chrono::steady_clock::now() + 60s;
    json last;
    while (std::chrono::steady_clock::now() < until) {
        last = data_of_prometheus(endpoint, "query_exemplars?start=1&end=99999999999&query="
                                                + escaped(metric));
        for (const auto& series : last)
            for (const auto& each : series.at("exemplars"))
                if (each.at("labels") == labels)
                    return true;
    }
    MESSAGE(metric << ": " << last.dump());
    return false;
}

/// Asks until the one value of the query is this; 60 s at most.
bool becomes(const std::string& endpoint, const std::string& query, const std::string& value) {
    const auto until = std::chrono::steady_clock::now() + 60s;
    json last;
    while (std::chrono::steady_clock::now() < until) {
        last = ask_prometheus(endpoint, query);
        if (last.size() == 1 && last[0].at("value").at(1) == value)
            return true;
    }
    MESSAGE(query << ": " << last.dump());
    return false;
}

std::string with_variables(std::string query) {
    for (const auto& [name, value] :
         {std::pair{"$kv_instance", ".*"}, {"$job", ".*"}, {"$__rate_interval", "10s"}})
        for (auto at = query.find(name); at != query.npos; at = query.find(name))
            query.replace(at, std::string{name}.size(), value);
    return query;
}

} // namespace

TEST_CASE("metrics: promtool finds nothing wrong with what a worker shows after a transfer"
          * doctest::skip() * doctest::test_suite("prometheus")) {
    instance_processes context{{"context", 1, 1, small_model, 64, {"--metrics", "127.0.0.1:0"}}};
    instance_processes generation{
        {"generation", 1, 1, small_model, 64, {"--metrics", "127.0.0.1:0"}}};
    const auto x = whole_blocks(7, 2, 16);
    send(context, x);
    receive(generation, context.endpoint, x);
    CHECK(generation[0].outcome(x.rid).at("state") == "KV_TRANSFERRED");
    if (!is_installed("promtool", "prometheus"))
        return;
    for (auto* rank : {&context[0], &generation[0]}) {
        const auto shown = http_get(metrics_of(*rank), "/metrics");
        REQUIRE(shown.status == 200);
        const scratch folder;
        const auto path = folder.path / "metrics";
        std::ofstream{path} << shown.body;
        const unique_fd input{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
        program promtool{{"promtool", "check", "metrics"}, input.get()};
        CHECK(promtool.status() == 0);
        CHECK(promtool.said == "");
    }
}

TEST_CASE("metrics: a drain makes a worker not ready before it ends, and a frozen one answers "
          "nothing") {
    instance_processes context{{"context", 1, 1, small_model, 64, {"--metrics", "127.0.0.1:0"}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    const auto endpoint = metrics_of(context[0]);
    CHECK(http_get(endpoint, "/livez").status == 200);
    CHECK(http_get(endpoint, "/readyz").status == 200);
    const auto x = whole_blocks(7, 2, 16);
    context[0].ask({{"do", "open"}, {"rid", x.rid}});
    receive(generation, context.endpoint, x);
    while (context[0].ask({{"do", "status"}, {"rid", x.rid}}).at("peers").empty())
        ;
    context[0].terminate(); // the session has met its peer: it keeps the rank
    auto ready = http_get(endpoint, "/readyz");
    for (const auto until = std::chrono::steady_clock::now() + 20s;
         ready.status == 200 && std::chrono::steady_clock::now() < until;)
        ready = http_get(endpoint, "/readyz");
    CHECK(ready.body == "rank 0 of context: it drains\n");
    CHECK(http_get(endpoint, "/livez").status == 200);
    send(context, x);
    CHECK(generation[0].outcome(x.rid).at("state") == "KV_TRANSFERRED");
    CHECK(context[0].wait_for_end() == 128 + SIGTERM);
}

TEST_CASE("metrics: flags come from a file, those on the command line win, and a worker that stays "
          "ends by SIGTERM only") {
    const scratch folder;
    const auto path = (folder.path / "rank.conf").string();
    std::ofstream{path} << "[worker]\ninstance = \"from-the-file\"\nslots = 8\nmodel = \""
                        << small_model << "\"\nmetrics = \"127.0.0.1:0\"\n";
    rank_process rank{{"--config", path, "--slots", "16", "--stay"}};
    CHECK(rank.ready().at("instance") == "from-the-file");
    CHECK(rank.ready().at("slots") == 16);
    CHECK(http_get(metrics_of(rank), "/livez").status == 200);
    rank.terminate();
    CHECK(rank.wait_for_end() == 128 + SIGTERM);

    std::ofstream{path} << "[worker]\nno-such-flag = 1\n";
    rank_process wrong{{"--config", path}};
    CHECK(wrong.wait_for_end() == 2);
}

TEST_CASE("metrics: Prometheus scrapes two workers, finds the request behind a bucket, and knows "
          "every query of the dashboard"
          * doctest::skip() * doctest::test_suite("prometheus")) {
    if (!is_installed("prometheus", "prometheus"))
        return;
    const std::vector<std::string> flags{"--metrics", "127.0.0.1:0"};
    instance_processes context{{"context", 1, 1, small_model, 64, flags}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, flags}};
    const scratch folder;
    const auto config = folder.path / "prometheus.yml";
    std::ofstream{config} << "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
                          << "rule_files: [" << KVFERRY_DEPLOY << "/alerts.yml]\n"
                          << "scrape_configs:\n- job_name: kvferry\n  static_configs:\n"
                          << "  - targets: [\"" << metrics_of(context[0]) << "\", \""
                          << metrics_of(generation[0]) << "\"]\n";
    program prometheus{{"prometheus", "--config.file=" + config.string(),
                        "--storage.tsdb.path=" + (folder.path / "data").string(),
                        "--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage"}};
    REQUIRE(prometheus.says("msg=\"Listening on\" address="));
    REQUIRE(prometheus.says("msg=\"Server is ready to receive web requests.\""));
    constexpr std::string_view mark = "msg=\"Listening on\" address=";
    const auto at = prometheus.said.find(mark) + mark.size();
    const auto endpoint = prometheus.said.substr(at, prometheus.said.find('\n', at) - at);
    REQUIRE(becomes(endpoint, "count(up{job=\"kvferry\"} == 1)", "2"));

    for (std::uint64_t rid = 1; rid <= 4; ++rid) {
        const auto x = whole_blocks(rid, 2, 16);
        send(context, x);
        receive(generation, context.endpoint, x,
                {{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}});
        CHECK(generation[0].outcome(rid).at("state") == "KV_TRANSFERRED");
        generation[0].released(rid);
        context[0].released(rid);
    }
    CHECK(becomes(endpoint, "sum(kvferry_sessions_ended_total{side=\"generation\",errc=\"none\"})",
                  "4"));
    CHECK(becomes(endpoint, "sum(kvferry_sessions_ended_total{side=\"context\",errc=\"none\"})",
                  "4"));
    for (const auto* side : {"context", "generation"})
        CHECK(has_exemplar(endpoint,
                           std::string{"kvferry_session_seconds_bucket{side=\""} + side + "\"}",
                           {{"trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"}, {"rid", "1"}}));
    CHECK(becomes(endpoint, "sum(kvferry_transferred_bytes_total{side=\"generation\"})",
                  std::to_string(4 * 2 * 16 * small_bytes_per_token)));
    CHECK(becomes(endpoint, "sum(kvferry_loan_bytes)", "0"));
    CHECK(becomes(endpoint, "sum(kvferry_rank_phase{phase=\"published\"})", "2"));

    std::string empty;
    std::size_t queries = 0;
    const auto dashboard = json::parse(text_of_file(KVFERRY_DEPLOY "/dashboard.json"));
    for (const auto& panel : dashboard.at("panels")) {
        bool shows = !panel.contains("targets");
        for (const auto& target : panel.value("targets", json::array())) {
            ++queries;
            const auto query = with_variables(target.at("expr").get<std::string>());
            shows = !ask_prometheus(endpoint, query).empty() || shows;
        }
        if (!shows)
            empty += panel.at("title").get<std::string>() + "; ";
    }
    CHECK(queries > 30);
    // No session lives any more, and the others have not happened here.
    CHECK(empty == "Sessions by state; Messages ignored; Requests refused; ");
}

} // namespace kvferry::testing
