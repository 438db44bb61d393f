// SPDX-License-Identifier: Apache-2.0
// The demo's verdict: it passes only when everything was compared and is equal.
#include "doctest/doctest.h"
#include "tools/demo/report.hpp"
#include "tools/demo/result.hpp"

#include <functional>
#include <string>
#include <vector>

using namespace kvferry::demo;

namespace {

demo_result good_result() {
    demo_result result;
    result.model = kvferry::engine::preset("tiny");
    result.context.started.ranks = {{0, 4, 0, 2, 4096}, {0, 4, 2, 2, 4096}};
    result.generation.started.ranks = {{0, 2, 0, 4, 4096}, {2, 2, 0, 4, 4096}};
    request_result request;
    request.rid = 1;
    request.prompt = "prompt";
    request.prefilled = request_prefilled{1, 65, 99, 0.1};
    request.received =
        request_received{1, "", 2'000'000, 5'000'000, {{0, 0, 3'000'000, 30, "mapped"}}};
    request.sent = request_sent{1, "", 1'000'000, {}};
    request.decoded = request_decoded{1, 65, {66, 67}, 99, 0.1};
    request.expected = kvferry::engine::generation{65, {66, 67}, 99};
    result.requests.push_back(request);
    return result;
}

} // namespace

TEST_CASE("demo_result: passes when tokens and digests are equal everywhere") {
    const auto result = good_result();
    CHECK(result.passed());
    const auto text = text_report(result, {});
    INFO(text);
    CHECK(text.find("PASSED") != std::string::npos);
    CHECK(text.find("\033") == std::string::npos);
    CHECK(json_report(result)["passed"] == true);
}

TEST_CASE("demo_result: any one difference fails it, with a line that says what") {
    using change = std::function<void(demo_result&)>;
    const std::vector<std::pair<const char*, change>> changes{
        {"tokens differ", [](auto& x) { x.requests[0].decoded->tokens[1] = 0; }},
        {"tokens differ", [](auto& x) { x.requests[0].decoded->tokens.pop_back(); }},
        {"tokens differ", [](auto& x) { x.requests[0].decoded->first_token = 64; }},
        {"KV differs", [](auto& x) { x.requests[0].decoded->digest = 98; }},
        {"KV differs", [](auto& x) { x.requests[0].prefilled->digest = 98; }},
        {"KV differs", [](auto& x) { x.requests[0].expected->prompt_digest = 98; }},
        {"no link", [](auto& x) { x.requests[0].received->failure = "no link"; }},
        {"no page", [](auto& x) { x.requests[0].sent->failure = "no page"; }},
        {"was not checked", [](auto& x) { x.requests[0].expected.reset(); }},
        {"did not finish", [](auto& x) { x.requests[0].decoded.reset(); }},
        {"it died", [](auto& x) { x.problems.push_back("it died"); }},
    };
    for (const auto& [what, apply] : changes) {
        auto result = good_result();
        apply(result);
        CHECK(!result.passed());
        const auto text = text_report(result, {});
        INFO(text);
        CHECK(text.find(what) != std::string::npos);
        CHECK(text.find("FAILED") != std::string::npos);
        CHECK(json_report(result)["passed"] == false);
    }
    CHECK(!demo_result{}.passed()); // no run at all
}

TEST_CASE("request_result: the clock starts when both sides could move bytes") {
    auto request = good_result().requests.front();
    CHECK(request.seconds() == doctest::Approx(0.003)); // receive() came last
    request.sent->send_at = 4'000'000;                  // generation-first: the prefill came last
    CHECK(request.seconds() == doctest::Approx(0.001));
    request.received->released_at = 0; // never released
    CHECK(request.seconds() == 0);
}
