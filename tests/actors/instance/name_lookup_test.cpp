// SPDX-License-Identifier: Apache-2.0
// A resolver that hangs costs nobody more than the time that they have.
#include "tests/actors/instance/hanging_resolver.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

#include <sys/eventfd.h>
#include <thread>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;
using kvferry::testing::contains;
using kvferry::testing::hanging_resolver;

TEST_CASE("name_lookup: a name that takes too long is given up, with an error of its own") {
    hanging_resolver resolver;
    const auto before = clock::now();
    auto found = resolver.find("slow.example", 20ms);
    CHECK(clock::now() - before < 10s);
    REQUIRE_FALSE(found);
    CHECK(code_of(found.error()) == errc::deadline_exceeded);
    CHECK(contains(text_of(found.error()), "looking up slow.example took longer than "));
    resolver.go->set_value();
}

TEST_CASE("name_lookup: askers of one name share a thread, and other names are bounded by name") {
    hanging_resolver resolver;
    for (int i = 0; i < 3; ++i)
        CHECK_FALSE(resolver.find("same.example", 1ms));
    for (std::size_t i = 1; i < name_lookup::running_max; ++i)
        CHECK(code_of(resolver.find("host" + std::to_string(i) + ".example", 1ms).error())
              == errc::deadline_exceeded);
    auto one_more = resolver.find("more.example", 1ms);
    CHECK(code_of(one_more.error()) == errc::limit_exceeded);
    CHECK(contains(text_of(one_more.error()), "8 other names are being looked up"));
    CHECK(resolver.find("127.0.0.1", 1ms)); // addresses need no look-up
    CHECK(*resolver.calls <= static_cast<int>(name_lookup::running_max));
    resolver.go->set_value();
    while (!resolver.find("more.example", 10s)) // until the others have ended
        std::this_thread::yield();
}

TEST_CASE("name_lookup: a caller that is told to hang up does not wait for the name") {
    hanging_resolver resolver;
    const unique_fd hang_up{::eventfd(1, EFD_CLOEXEC)};
    auto found = resolver.lookup.find({"slow.example", 1}, {clock::now() + 20s, hang_up.get()});
    CHECK(code_of(found.error()) == errc::stopped);
    resolver.go->set_value();
}
