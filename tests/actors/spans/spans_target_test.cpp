// SPDX-License-Identifier: Apache-2.0
// Where spans go, by the rules of OTEL_EXPORTER_OTLP_ENDPOINT.
#include "actors/spans/spans_target.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

namespace kvferry::testing {

TEST_CASE("spans target: the path of OTLP comes behind what is named, once") {
    const auto of = [](const char* endpoint) { return spans_target(endpoint).value(); };
    CHECK(of("http://127.0.0.1:4318") == "http://127.0.0.1:4318/v1/traces");
    CHECK(of("https://collector:443/") == "https://collector:443/v1/traces");
    CHECK(of("http://[::1]:4318/tenant/7") == "http://[::1]:4318/tenant/7/v1/traces");
    CHECK(of("http://a:1/v1/traces") == "http://a:1/v1/traces");
    for (const auto* wrong : {"", "127.0.0.1:4318", "grpc://a:4317", "http://", "http:///v1/traces",
                              "http://:1", "http://a b:1", "http://a:1/?x", "http://a:1\r\nX: y"}) {
        const auto refused = spans_target(wrong);
        CAPTURE(wrong);
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::invalid_argument);
        CHECK(contains(text_of(refused.error()), "is not http://host:port"));
    }
}

} // namespace kvferry::testing
