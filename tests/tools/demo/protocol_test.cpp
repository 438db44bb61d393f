// SPDX-License-Identifier: Apache-2.0
// The demo's lines: every field arrives, only whole lines are read, and no write ever blocks.
#include "doctest/doctest.h"
#include "tools/demo/lines.hpp"
#include "tools/demo/protocol.hpp"

#include <array>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <limits>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <unistd.h>

using namespace kvferry;
using namespace kvferry::demo;

namespace {

struct ends {
    ends() {
        std::array<int, 2> fds{};
        REQUIRE(::pipe2(fds.data(), O_CLOEXEC) == 0);
        in = unique_fd{fds[0]};
        out = unique_fd{fds[1]};
    }
    unique_fd in;
    unique_fd out;
};

} // namespace

TEST_CASE("protocol: a message arrives as it was sent, at its own handler") {
    line_handlers handlers;
    request_received got;
    int others = 0;
    handlers.on<request_received>([&](const request_received& message) { got = message; });
    handlers.on<stop_side>([&](const stop_side&) { ++others; });

    request_received sent{7, "why\nnot \"so\"", 1, std::numeric_limits<std::int64_t>::max(), {}};
    sent.arrivals.push_back({1, 2, std::numeric_limits<std::uint64_t>::max(), 4, "mapped"});
    const auto line = encode(sent);
    CHECK(line.find('\n') == line.size() - 1);
    handlers.handle(line);
    CHECK(got.rid == 7);
    CHECK(got.failure == sent.failure);
    CHECK(got.released_at == sent.released_at);
    REQUIRE(got.arrivals.size() == 1);
    CHECK(got.arrivals[0].bytes == sent.arrivals[0].bytes);
    CHECK(got.arrivals[0].route == "mapped");
    CHECK(others == 0);
    handlers.handle(encode(stop_side{}));
    CHECK(others == 1);
}

TEST_CASE("protocol: text that is no UTF-8 cannot break a line") {
    line_handlers handlers;
    std::string got;
    handlers.on<side_failed>([&](const side_failed& message) { got = message.why; });
    handlers.handle(encode(side_failed{"bad \xff byte"}));
    CHECK(got == "bad \xef\xbf\xbd byte");
}

TEST_CASE("protocol: a line that is no message is refused and shown") {
    line_handlers handlers;
    handlers.on<stop_side>([](const stop_side&) {});
    handlers.on<abandon_request>([](const abandon_request&) {});
    for (const char* wrong :
         {"", "{}", "[]", "hello", R"({"kind":"stop"})", R"({"kind":1,"body":{}})",
          R"({"kind":"nobody","body":{}})", R"({"kind":"abandon","body":{}})"}) {
        CAPTURE(wrong);
        CHECK_THROWS_AS(handlers.handle(wrong), std::runtime_error);
    }
}

TEST_CASE("line_reader: gives whole lines, whatever pieces they come in, and then the end") {
    ends pipe;
    line_reader reader{std::move(pipe.in)};
    const auto put = [&](const std::string& text) {
        REQUIRE(::write(pipe.out.get(), text.data(), text.size())
                == static_cast<ssize_t>(text.size()));
        reader.read_available();
    };
    put("fir");
    CHECK(!reader.next());
    put("st\nsecond\nthi");
    CHECK(reader.next() == "first");
    CHECK(reader.next() == "second");
    CHECK(!reader.next());
    put("rd\n");
    pipe.out.reset();
    CHECK(!reader.ended());
    reader.read_available();
    CHECK(reader.ended());
    CHECK(reader.next() == "third");
    CHECK(!reader.next());
}

TEST_CASE("line_writer: keeps what a full pipe does not take, and sends it in order later") {
    ends pipe;
    line_reader reader{std::move(pipe.in)};
    line_writer writer{std::move(pipe.out)};
    const std::string line(1 << 20, 'x');
    writer.write(line + "\n");
    writer.write("after\n");
    CHECK(writer.pending());
    while (writer.pending()) {
        reader.read_available();
        writer.flush();
    }
    reader.read_available();
    CHECK(reader.next() == line);
    CHECK(reader.next() == "after");
}

TEST_CASE("line_writer: a reader that is gone takes everything and nothing waits") {
    std::signal(SIGPIPE, SIG_IGN);
    ends pipe;
    line_writer writer{std::move(pipe.out)};
    pipe.in.reset();
    writer.write("into the void\n");
    CHECK(!writer.pending());
    writer.write("again\n");
    CHECK(!writer.pending());
}
