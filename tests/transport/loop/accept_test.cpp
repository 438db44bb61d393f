// SPDX-License-Identifier: Apache-2.0
// A listener without descriptors: who waits stays in the queue, nothing spins, and it is said once.
#include "tests/support/caf_setup.hpp"
#include "tests/support/kept_log.hpp"
#include "transport/loop/accept.hpp"
#include "transport/loop/system_call.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>

using namespace kvferry;
using kvferry::testing::kept_log;

namespace {

struct listener {
    sockaddr_in at{};
    unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};

    listener() {
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof at;
        REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), size) == 0);
        REQUIRE(::listen(fd.get(), 8) == 0);
        REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    }
    unique_fd knock() const {
        unique_fd result{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        REQUIRE(::connect(result.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
        return result;
    }
};

} // namespace

TEST_CASE("accept: nobody waits, somebody waits, and what no descriptor is left for stays queued") {
    const listener at;
    auto nobody = accept_connection(at.fd.get());
    REQUIRE(nobody);
    CHECK_FALSE(*nobody);

    const auto waiting = at.knock();
    for (const int number : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
        const failing_call fails("accept4", number);
        const auto refused = accept_connection(at.fd.get());
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::system_call_failed);
    }
    {
        const failing_call fails("descriptors", EMFILE);
        const auto refused = accept_connection(at.fd.get());
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::limit_exceeded);
    }
    {
        const failing_call gone("accept4", ECONNABORTED);
        auto next = accept_connection(at.fd.get());
        REQUIRE(next);
        CHECK_FALSE(*next);
    }
    auto in = accept_connection(at.fd.get());
    REQUIRE(in);
    CHECK(*in);
}

TEST_CASE(
    "accept: a door of a poll loop rests after an error, says it once for each time of need, and "
    "then lets in who has waited") {
    const kept_log log{spdlog::level::err};
    listener at;
    const auto first = at.knock();
    const auto second = at.knock();
    poll_door door{std::move(at.fd), "the door"};
    const auto round = [&] {
        auto watched = door.watched();
        if (::poll(&watched, 1, 0) <= 0)
            watched.revents = 0;
        return door.accept(watched);
    };
    for (int expected = 1; expected <= 2; ++expected) {
        {
            const failing_call fails("accept4", EMFILE);
            for (int tries = 0; tries < 3; ++tries) {
                CHECK(door.rest_ms() == -1);
                CHECK_FALSE(round());
                CHECK(door.rest_ms() == accept_rest.count());
                CHECK(door.watched().fd == -1);
                CHECK_FALSE(round()); // the rest is over
            }
        }
        CHECK(log.count("lets nobody in") == expected);
        CHECK(door.watched(false).fd == -1);
        CHECK(round());
    }
    CHECK_FALSE(round());
}
