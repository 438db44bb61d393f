// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP's JSON; the ctest `spans` reads it with the published schema.
#include "actors/spans/span_bodies.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace kvferry::testing {

TEST_CASE(
    "span bodies: ranks are resources, and an error other than a cancel is the span's status") {
    const auto rank = [](const char* name) { return std::make_shared<const std::string>(name); };
    session_span good{.rank = rank("decode/0"),
                      .role = side::generation,
                      .rid = 7,
                      .trace_high = 1,
                      .trace_low = 0xab,
                      .id = 5,
                      .begin = std::chrono::nanoseconds{10},
                      .end = std::chrono::nanoseconds{30},
                      .waited = std::chrono::nanoseconds{4},
                      .bytes = 64};
    auto cancelled = good;
    cancelled.reason = errc::cancelled;
    auto late = good;
    late.rank = rank("prefill/1");
    late.role = side::context;
    late.parent = 5;
    late.waited = std::chrono::nanoseconds{-1};
    late.reason = errc::deadline_exceeded;
    const auto body = nlohmann::json::parse(body_of({good, late, cancelled}, 42));
    const auto& resources = body.at("resourceSpans");
    REQUIRE(resources.size() == 2);
    const auto& first = resources[0].at("scopeSpans")[0].at("spans");
    REQUIRE(first.size() == 2);
    CHECK(first[0].at("traceId") == "000000000000000100000000000000ab");
    CHECK(first[0].at("spanId") == "0000000000000005");
    CHECK(first[0].at("startTimeUnixNano") == "10");
    CHECK(first[0].at("endTimeUnixNano") == "30");
    CHECK(first[0].at("name") == "kvferry receive");
    CHECK_FALSE(first[0].contains("parentSpanId"));
    CHECK_FALSE(first[0].contains("status"));
    CHECK_FALSE(first[1].contains("status"));
    const auto& second = resources[1].at("scopeSpans")[0].at("spans")[0];
    CHECK(second.at("parentSpanId") == "0000000000000005");
    CHECK(second.at("status").at("message") == "deadline_exceeded");
    CHECK(resources[1].at("resource").dump().find("prefill/1") != std::string::npos);
}

} // namespace kvferry::testing
