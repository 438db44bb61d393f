// SPDX-License-Identifier: Apache-2.0
// W3C's traceparent: what it says, and what is none.
#include "messages/values/trace_parent.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

TEST_CASE("trace parent: the recommendation's example is read, and written as it was") {
    constexpr const char* text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const auto read = parse_trace_parent(text);
    REQUIRE(read);
    CHECK(read->trace_high == 0x4bf92f3577b34da6);
    CHECK(read->trace_low == 0xa3ce929d0e0e4736);
    CHECK(read->span == 0x00f067aa0ba902b7);
    CHECK(read->flags == 1);
    CHECK(to_string(*read) == text);
}

TEST_CASE("trace parent: of a later version the known fields are read") {
    const std::string later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    CHECK(parse_trace_parent(later));
    CHECK(parse_trace_parent(later + "-what-comes-next"));
    CHECK_FALSE(parse_trace_parent(later + "x"));
}

TEST_CASE("trace parent: anything else is none") {
    for (const auto* text : {
             "",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
             "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
             "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
             "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
             "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
             "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
         })
        CHECK_FALSE_MESSAGE(parse_trace_parent(text).has_value(), text);
}
