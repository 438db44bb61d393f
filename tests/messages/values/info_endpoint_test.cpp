// SPDX-License-Identifier: Apache-2.0
// Endpoints: what the grammar accepts, and everything that it must refuse.
#include "messages/errors.hpp"
#include "messages/values/info_endpoint.hpp"
#include "tests/support/caf_setup.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace std::string_literals;

namespace {

const std::string label63(63, 'a');
const std::string name253 = label63 + "." + label63 + "." + label63 + "." + std::string(61, 'b');

} // namespace

TEST_CASE("info_endpoint: what the grammar has is accepted and written back the same") {
    struct row {
        std::string text, host;
        std::uint16_t port;
    };
    const row rows[] = {
        {"localhost:1", "localhost", 1},
        {"node-07.cluster.local:65535", "node-07.cluster.local", 65535},
        {"UPPER.example:80", "UPPER.example", 80},
        {"3com.example:80", "3com.example", 80},
        {"10.in-addr:80", "10.in-addr", 80},
        {"0x1.example:9", "0x1.example", 9},
        {"x--y:9", "x--y", 9},
        {"127.0.0.1:7000", "127.0.0.1", 7000},
        {"0.0.0.0:7000", "0.0.0.0", 7000},
        {"255.255.255.255:7000", "255.255.255.255", 7000},
        {"[::1]:7000", "::1", 7000},
        {"[::]:7000", "::", 7000},
        {"[fe80::1:2:3]:7000", "fe80::1:2:3", 7000},
        {"[::ffff:10.0.0.1]:7000", "::ffff:10.0.0.1", 7000},
        {"[1:2:3:4:5:6:7:8]:7000", "1:2:3:4:5:6:7:8", 7000},
        {label63 + ":1", label63, 1},
        {name253 + ":1", name253, 1},
    };
    for (const auto& [text, host, port] : rows) {
        CAPTURE(text);
        auto parsed = parse_info_endpoint(text);
        REQUIRE_MESSAGE(parsed, describe(parsed.error()));
        CHECK(parsed->host == host);
        CHECK(parsed->port == port);
        CHECK(to_string(*parsed) == text);
    }
}

TEST_CASE("info_endpoint: everything else is refused with the text and the grammar") {
    const std::string rows[] = {
        "",
        ":",
        ":80",
        "host",
        "host:",
        "[::1]",
        "[::1]:",
        "[]:80",
        "[:80",
        "]:80",
        // ports
        "host:0",
        "host:65536",
        "host:99999999999999999999",
        "host:-1",
        "host:+1",
        "host:080",
        "host:8o",
        "host:0x50",
        "host: 80",
        "host:80 ",
        "host:80/",
        "host:80\n",
        "host:80;other:81",
        "host:80#",
        // schemes, paths, users, lists
        "tcp://host:80",
        "http://host:80/path",
        "user@host:80",
        "tcp://source;destination",
        "host/path:80",
        "host,other:80",
        "host?:80",
        "host:80:81",
        "//host:80",
        "\\\\host:80",
        // names
        "ho st:80",
        " host:80",
        "host .x:80",
        "-host:80",
        "host-:80",
        "a.-b:80",
        "a..b:80",
        ".host:80",
        "host.:80",
        "ho_st:80",
        "h\xc3\xb6st:80",
        "host%20:80",
        "host\t:80",
        "*:80",
        label63 + "a:80",
        name253 + "b:80",
        "a\0b:80"s,
        "host:80\0"s,
        // numbers that a resolver takes for an address
        "1:80",
        "127.1:80",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "256.1.1.1:80",
        "1.2.3.256:80",
        "01.2.3.4:80",
        "1.2.3.04:80",
        "0x7f000001:80",
        "0x7f.0.0.0x1:80",
        "0X:80",
        "2130706433:80",
        "example.5:80",
        // IPv6
        "::1:80",
        "[::1:80",
        "::1]:80",
        "[::1]x:80",
        "x[::1]:80",
        "[::1%eth0]:80",
        "[::1%1]:80",
        "[1.2.3.4]:80",
        "[host]:80",
        "[:::]:80",
        "[1:2:3:4:5:6:7:8:9]:80",
        "[12345::]:80",
        "[[::1]]:80",
        "[ ::1]:80",
        "[::1 ]:80",
        "[::1\0]:80"s,
    };
    for (const auto& text : rows) {
        CAPTURE(text);
        auto parsed = parse_info_endpoint(text);
        REQUIRE_FALSE(parsed);
        CHECK(code_of(parsed.error()) == errc::invalid_argument);
        const auto shown = text_of(parsed.error());
        CHECK(shown.find("[::1]:port") != std::string::npos);
        CHECK(std::all_of(shown.begin(), shown.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    }
    CHECK(text_of(parse_info_endpoint("tcp://host:80").error()).find("\"tcp://host:80\"") == 0);
    CHECK(text_of(parse_info_endpoint(std::string(5000, 'x')).error()).size() < 300);
}
