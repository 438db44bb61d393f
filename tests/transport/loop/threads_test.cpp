// SPDX-License-Identifier: Apache-2.0
// A process that may have no more threads. Real limits: tests/processes/limits_test.cpp.
#include "messages/errors.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <doctest/doctest.h>

#include <cerrno>

using namespace kvferry;
using kvferry::testing::contains;

TEST_CASE("threads: when none can be made, this is told by name") {
    CHECK_FALSE(check_threads("a test", 3));
    bool ran = false;
    auto made = make_thread("a test", [&ran] { ran = true; });
    REQUIRE(made);
    made->join();
    CHECK(ran);
    failing_call none_left{"thread", EAGAIN};
    for (const auto& problem : {check_threads("a test", 3), make_thread("a test", [] {}).error()}) {
        CHECK(code_of(problem) == errc::system_call_failed);
        CHECK(contains(text_of(problem), "thread of a test: "));
        CHECK(contains(text_of(problem), "raise pids.max"));
    }
}
