// SPDX-License-Identifier: Apache-2.0
// A process that a signal ends, or in which something fails, leaves a file with its last events.
#include "actors/host/configure.hpp"
#include "doctest/doctest.h"
#include "messages/trace/trace.hpp"
#include "tools/common/flight_recorder.hpp"
#include "tools/trace/recording.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

using namespace kvferry;

namespace {

struct temporary_folder {
    std::string path;
    temporary_folder() {
        char name[] = "/tmp/kvferry-test-XXXXXX";
        REQUIRE(::mkdtemp(name));
        path = name;
    }
    ~temporary_folder() { std::filesystem::remove_all(path); }
};

void record_one(const char* message) {
    trace::event x;
    x.message = message;
    x.ticks = trace::now();
    trace::record(x);
}

} // namespace

TEST_CASE("flight recorder: a process ended by a signal leaves its last events, and ends by that "
          "signal") {
    init_types();
    for (int number : {SIGTERM, SIGABRT, SIGSEGV}) {
        CAPTURE(number);
        temporary_folder folder;
        const auto child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            auto flight = tools::flight_recorder::start("dying", folder.path);
            record_one("last words");
            std::raise(number);
            ::_exit(7);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == number);
        auto run = tracing::read_run(folder.path);
        REQUIRE(run);
        REQUIRE(run->recordings.size() == 1);
        const auto& left = run->recordings[0];
        CHECK(left.problems.empty());
        CHECK(left.ended == "signal " + std::to_string(number));
        CHECK(std::any_of(left.events.begin(), left.events.end(),
                          [](const auto& x) { return x.message == "last words"; }));
    }
}

TEST_CASE("flight recorder: a failure is written down while the process lives on") {
    init_types();
    temporary_folder folder;
    tools::flight_recorder::failed("nobody listens");
    {
        auto flight = tools::flight_recorder::start("failing", folder.path);
        REQUIRE(flight);
        record_one("before the failure");
        tools::flight_recorder::failed("rid 7 failed");
    } // the file is written before the process ends
    auto run = tracing::read_run(folder.path);
    REQUIRE(run);
    REQUIRE(run->recordings.size() == 1);
    CHECK(run->recordings[0].ended == "rid 7 failed");
}
