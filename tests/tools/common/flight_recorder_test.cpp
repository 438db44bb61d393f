// SPDX-License-Identifier: Apache-2.0
// A process that a signal ends, or in which something fails, leaves a file with its last events.
#include "actors/host/configure.hpp"
#include "actors/observe/process_files.hpp"
#include "actors/observe/trace_recording.hpp"
#include "doctest/doctest.h"
#include "messages/trace/trace.hpp"
#include "tools/common/flight_recorder.hpp"
#include "tools/trace/recording.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
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

TEST_CASE("flight recorder: two processes of one name and id leave two files") {
    // Each container counts its processes from 1, and their files may lie in one folder.
    init_types();
    temporary_folder folder;
    const auto elsewhere = folder.path + "/dying-" + std::to_string(::getpid()) + ".kvtrace";
    CHECK(process_file_name("dying/0").starts_with("dying-0-" + std::to_string(::getpid()) + "."));
    CHECK(process_file_name("dying") == process_file_name("dying")); // one mark per process
    auto path = dump_trace(folder.path, "dying", "first");
    REQUIRE(path);
    CHECK(*path != elsewhere);
    auto again = dump_trace(folder.path, "dying", "second");
    REQUIRE(again);
    CHECK(*again == *path); // the newest failure of a process is enough
    CHECK(tracing::read_run(folder.path)->recordings.at(0).ended == "second");
}

TEST_CASE("flight recorder: neither its folder nor its file is reached through somebody's link") {
    init_types();
    temporary_folder folder;
    const auto victim = folder.path + "/victim";
    std::ofstream{victim} << "precious";
    // The file: a link that waits at the very name.
    const auto trap = folder.path + "/" + process_file_name("dying") + ".kvtrace~";
    std::filesystem::create_symlink(victim, trap);
    auto path = dump_trace(folder.path, "dying", "why");
    std::string content;
    std::ifstream{victim} >> content;
    CHECK(content == "precious");
    CHECK((!path || !std::filesystem::is_symlink(*path)));
    // The folder: a link in its place, or one that others may enter.
    std::filesystem::create_directory_symlink(folder.path, folder.path + "/link");
    CHECK(make_private_folder(folder.path + "/link", "KVFERRY_FLIGHT"));
    std::filesystem::create_directory(folder.path + "/open");
    std::filesystem::permissions(folder.path + "/open", std::filesystem::perms{0755});
    const auto open_to_all = make_private_folder(folder.path + "/open", "KVFERRY_FLIGHT");
    CHECK(code_of(open_to_all) == errc::invalid_argument);
    CHECK(text_of(open_to_all).find("KVFERRY_FLIGHT") != std::string::npos);
    CHECK_FALSE(make_private_folder(folder.path + "/new", "KVFERRY_FLIGHT"));
    CHECK(std::filesystem::status(folder.path + "/new").permissions()
          == std::filesystem::perms{0700});
}

TEST_CASE("flight recorder: its folder keeps a bounded number of files, the newest ones") {
    init_types();
    temporary_folder folder;
    for (std::size_t i = 0; i < tools::flight_recorder::files_max + 5; ++i) {
        const auto old = folder.path + "/old-" + std::to_string(i) + ".kvtrace";
        std::ofstream{old} << i;
        std::filesystem::last_write_time(old, std::filesystem::file_time_type::clock::now()
                                                  - std::chrono::hours{1000 - i});
    }
    {
        auto flight = tools::flight_recorder::start("failing", folder.path);
        REQUIRE(flight);
        tools::flight_recorder::failed("rid 7 failed");
    }
    const auto left = std::distance(std::filesystem::directory_iterator{folder.path}, {});
    CHECK(left == static_cast<std::ptrdiff_t>(tools::flight_recorder::files_max));
    CHECK_FALSE(std::filesystem::exists(folder.path + "/old-0.kvtrace"));
    CHECK(std::filesystem::exists(folder.path + "/" + process_file_name("failing") + ".kvtrace"));
}
