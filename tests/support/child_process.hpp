// SPDX-License-Identifier: Apache-2.0
// Another process that runs one hidden test case of this binary, for tests that need a second
// process.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <signal.h>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <vector>

extern char** environ;

namespace kvferry::testing {

/// Starts by fork and exec. The test case is marked with doctest::skip(). The process is killed at
/// the latest when this object is destroyed.
class child_process {
public:
    /// child_argument() returns `argument` in the child.
    child_process(const std::string& test_case, const std::string& argument) {
        std::vector<std::string> words{"/proc/self/exe", "--no-skip", "--test-case=" + test_case};
        std::vector<char*> pointers;
        for (auto& word : words)
            pointers.push_back(word.data());
        pointers.push_back(nullptr);
        ::setenv("KVFERRY_TEST_ARGUMENT", argument.c_str(), 1);
        REQUIRE(::posix_spawn(&pid_, "/proc/self/exe", nullptr, nullptr, pointers.data(), environ)
                == 0);
        ::unsetenv("KVFERRY_TEST_ARGUMENT");
    }
    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;
    ~child_process() { kill(); }

    /// SIGKILL; afterwards the process is gone and its number is free.
    void kill() {
        if (pid_ <= 0)
            return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

    /// SIGSTOP; returns when all its threads have stopped.
    void freeze() {
        ::kill(pid_, SIGSTOP);
        int status = 0;
        REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
        REQUIRE(WIFSTOPPED(status));
    }

private:
    pid_t pid_ = -1;
};

/// Empty in a process that child_process did not start.
inline std::string child_argument() {
    const auto* text = std::getenv("KVFERRY_TEST_ARGUMENT");
    return text ? text : "";
}

} // namespace kvferry::testing
