// SPDX-License-Identifier: Apache-2.0
// The demo's texts: sizes, escapes, tables and the picture of ranks.
#include "doctest/doctest.h"
#include "tools/common/text.hpp"
#include "tools/demo/picture.hpp"

#include <string>
#include <vector>

using namespace kvferry::demo;

namespace {

std::string joined(const std::vector<std::string>& lines) {
    std::string text = "\n";
    for (const auto& line : lines)
        text += line + "\n";
    return text;
}

} // namespace

TEST_CASE("bytes_text, seconds_text: each size in the unit that reads well") {
    CHECK(bytes_text(0) == "0 B");
    CHECK(bytes_text(1023) == "1023 B");
    CHECK(bytes_text(8192) == "8.0 KiB");
    CHECK(bytes_text(512.0 * 1024) == "512 KiB");
    CHECK(bytes_text(4.25 * 1024 * 1024) == "4.2 MiB");
    CHECK(bytes_text(3.0 * 1024 * 1024 * 1024) == "3.0 GiB");
    CHECK(seconds_text(0.00085) == "850 us");
    CHECK(seconds_text(0.0031) == "3.1 ms");
    CHECK(seconds_text(2.44) == "2.4 s");
}

TEST_CASE("rate_text: decimal gigabytes per second, and no division by nothing") {
    CHECK(rate_text(3'000'000, 0.001) == "3.00");
    CHECK(rate_text(32'768, 0.000465) == "0.0705"); // a small rate does not become 0.00
    CHECK(rate_text(3'000'000, 0) == "-");
    CHECK(rate_text(0, 0.001) == "-");
}

TEST_CASE("quoted: whatever the bytes, the text is printable ASCII and fits") {
    std::string every;
    for (int byte = 0; byte < 256; ++byte)
        every += static_cast<char>(byte);
    for (std::size_t columns : {8U, 20U, 63U, 2000U}) {
        auto text = quoted(every, columns);
        CHECK(text.size() <= columns);
        for (char c : text)
            CHECK((c >= 0x20 && c < 0x7f));
    }
    CHECK(quoted("a\n\"b\\", 40) == R"("a\n\"b\\")");
    CHECK(quoted({"\x1b[2J", 4}, 40) == R"("\x1b[2J")");
}

TEST_CASE("quoted: a cut never splits an escape") {
    const std::string bytes(10, '\x01');
    for (std::size_t columns = 8; columns < 42; ++columns) {
        auto text = quoted(bytes, columns);
        REQUIRE(text.size() <= columns);
        REQUIRE(text.ends_with("...\""));
        CHECK((text.size() - 5) % 4 == 0);
    }
    CHECK(quoted(bytes, 42).ends_with("\\x01\""));
}

TEST_CASE("format_table: columns line up by what a terminal shows, not by bytes") {
    const auto lines =
        format_table({{"name", align::left}, {"n", align::right}, {"x", align::left}},
                     {{"ä", "1", ""}, {"long one", "100", "y"}});
    CHECK(joined(lines) == joined({"name        n  x", "ä           1", "long one  100  y"}));
}

TEST_CASE("draw: one rank to one") {
    const auto lines = draw({"A", {"a0"}}, {"B", {"b0"}}, {{0, 0}});
    CHECK(joined(lines)
          == joined({
              "  A          B",
              "┌────┐     ┌────┐",
              "│ a0 ├─┐   │    │",
              "│    │ └──▶│ b0 │",
              "└────┘     └────┘",
          }));
}

TEST_CASE("draw: two ranks to two, each to both") {
    const auto lines =
        draw({"A", {"a0", "a1"}}, {"B", {"b0", "b1"}}, {{0, 0}, {0, 1}, {1, 0}, {1, 1}});
    CHECK(joined(lines)
          == joined({
              "  A            B",
              "┌────┐       ┌────┐",
              "│ a0 ├───┐   │    │",
              "│    │ ┌─┼──▶│ b0 │",
              "│ a1 ├─┤ │   │    │",
              "│    │ └─┴──▶│ b1 │",
              "└────┘       └────┘",
          }));
}

TEST_CASE("draw: wires that cross without touching are drawn over, not joined") {
    // The wire from a0 to b1 crosses the wire from a1 to b0.
    const auto lines = draw({"A", {"a0", "a1"}}, {"B", {"b0", "b1"}}, {{0, 1}, {1, 0}});
    CHECK(joined(lines)
          == joined({
              "  A            B",
              "┌────┐       ┌────┐",
              "│ a0 ├───┐   │    │",
              "│    │ ┌────▶│ b0 │",
              "│ a1 ├─┘ │   │    │",
              "│    │   └──▶│ b1 │",
              "└────┘       └────┘",
          }));
}

TEST_CASE("draw: a rank without wires, and sides of unequal size") {
    const auto lines = draw({"left", {"a0", "a1", "a2"}}, {"right", {"b0"}}, {{0, 0}, {2, 0}});
    CHECK(joined(lines)
          == joined({
              "  left             right",
              "┌──────┐         ┌───────┐",
              "│ a0   ├─────┐   │       │",
              "│      │ ┌───┴──▶│ b0    │",
              "│ a1   │ │       │       │",
              "│      │ │       │       │",
              "│ a2   ├─┘       │       │",
              "│      │         │       │",
              "└──────┘         └───────┘",
          }));
}
