// SPDX-License-Identifier: Apache-2.0
// What people see on their terminal: lines that fit, in characters that it shows.
#include "tests/support/contains.hpp"
#include "tools/common/people.hpp"
#include "tools/common/text.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace kvferry;
using kvferry::testing::contains;

namespace {

/// What the program prints on a terminal of this width.
std::string on_a_terminal(unsigned short columns, const char* locale,
                          std::vector<const char*> arguments, bool errors = false) {
    winsize size{};
    size.ws_row = 50;
    size.ws_col = columns;
    int terminal = -1;
    const auto child = ::forkpty(&terminal, nullptr, nullptr, &size);
    REQUIRE(child >= 0);
    if (child == 0) {
        ::setenv("LC_ALL", locale, 1);
        ::setenv("NO_COLOR", "1", 1);
        if (!errors) // progress lines replace each other
            ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
        arguments.insert(arguments.begin(), "kvferry");
        arguments.push_back(nullptr);
        ::execv(KVFERRY_PROGRAM, const_cast<char* const*>(arguments.data()));
        ::_exit(127);
    }
    std::string text;
    char bytes[4096];
    for (pollfd look{terminal, POLLIN, 0}; ::poll(&look, 1, 60'000) == 1;) {
        const auto count = ::read(terminal, bytes, sizeof bytes);
        if (count <= 0)
            break;
        text.append(bytes, static_cast<std::size_t>(count));
    }
    ::close(terminal);
    int status = 0;
    ::waitpid(child, &status, 0);
    std::erase(text, '\r');
    return text;
}

std::size_t widest(const std::string& text) {
    std::size_t result = 0;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);)
        result = std::max(result, demo::columns_of(line));
    return result;
}

} // namespace

TEST_CASE("people: a long line is broken between words and goes on under its last cell") {
    CHECK(tools::fold_line("short", 20) == "short");
    CHECK(tools::fold_line("one two three four", 10) == "one two\nthree four");
    CHECK(tools::fold_line("state  what  found this and that and more", 24)
          == "state  what  found this\n       and that and more");
    CHECK(tools::fold_line("abcdefghijklmnopqrstuvwxyz", 10) == "abcdefghij\nklmnopqrst\nuvwxyz");
    CHECK(tools::fold_line("\x1b[1mone two\x1b[0m", 8) == "\x1b[1mone two\x1b[0m");
}

TEST_CASE("people: a picture is cut, and shows that it is") {
    CHECK(tools::fold_line("┌──────────────┐", 10) == "┌────────>");
}

TEST_CASE("people: every character outside of ASCII has a stand-in of one column") {
    CHECK(tools::to_ascii("┌─┐ │a├─▶│ ✓ é 1") == "+-+ |a+->| + ? 1");
}

TEST_CASE("people: no subcommand writes lines wider than the terminal, in any locale") {
    for (const char* locale : {"C", "C.UTF-8"})
        for (const std::vector<const char*>& arguments :
             {std::vector{"doctor", "--help"}, std::vector{"doctor"},
              std::vector{"demo", "--model", "tiny", "--requests", "1", "--new-tokens", "1"},
              std::vector{"plan", "--context", "tp=2", "--generation", "tp=1"},
              std::vector{"worker", "--help"}, std::vector{"trace", "why", "--help"},
              std::vector{"bench", "--regions", "1", "--transfers", "1", "--repeat", "1"},
              std::vector{"bench", "plan", "--repeat", "1"},
              std::vector{"bench", "request", "--requests", "10"},
              std::vector{"bench", "scale", "--sessions", "3", "--peers", "1"},
              std::vector{"bench", "soak", "--requests", "200"}}) {
            const auto text = on_a_terminal(60, locale, arguments);
            CAPTURE(text);
            CHECK(text.size() > 60);
            CHECK(widest(text) <= 60);
        }
}

TEST_CASE("people: no error is wider than the terminal") {
    const std::string far = "/no/such/folder/as/this/one/because/its/name/is/longer/than/a/line";
    for (const std::vector<const char*>& arguments :
         {std::vector{"trace", "stats", far.c_str()}, std::vector{"trace", "why", "7", far.c_str()},
          std::vector{"plan", "--model", far.c_str(), "--context", "tp=2"},
          std::vector{"instances", "--etcd", "127.0.0.1:1"},
          std::vector{"bench", "--context-memory", "no-such-memory-whatever-it-may-be"}}) {
        const auto text = on_a_terminal(60, "C", arguments, true);
        CAPTURE(text);
        CHECK(text.size() > 60);
        CHECK(widest(text) <= 60);
    }
}

TEST_CASE("people: under LANG=C pictures are drawn with ASCII") {
    const auto text = on_a_terminal(
        120, "C", {"demo", "--model", "tiny", "--requests", "1", "--new-tokens", "1"});
    CAPTURE(text);
    CHECK(contains(text, "+--"));
    CHECK(std::all_of(text.begin(), text.end(),
                      [](char x) { return (static_cast<unsigned char>(x) & 0x80) == 0; }));
}
