// SPDX-License-Identifier: Apache-2.0
// Which format an Accept header asks for.
#include "actors/metrics/accept_header.hpp"

#include <doctest/doctest.h>

namespace kvferry::testing {

TEST_CASE("accept header: OpenMetrics where it is asked for by name and not less than text") {
    for (const auto* open :
         {"application/openmetrics-text", "text/html, application/openmetrics-text;version=1.0.0",
          "application/openmetrics-text; version=1.0.0; charset=utf-8;q=0.5 , text/plain;q=0.5",
          "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
          "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"})
        CHECK_MESSAGE(format_for(open) == exposition::format::open_metrics, open);
    for (const auto* plain :
         {"", ",;,", "*/*", "text/plain", "application/openmetrics-text;q=0",
          "application/openmetrics-text;q=x", "application/openmetrics-text;version=2.0.0",
          "application/openmetrics-text;q=0.4,text/plain;q=0.5", "xapplication/openmetrics-text"})
        CHECK_MESSAGE(format_for(plain) == exposition::format::prometheus, plain);
}

} // namespace kvferry::testing
