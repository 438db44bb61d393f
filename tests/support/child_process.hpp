// SPDX-License-Identifier: Apache-2.0
// Another process that runs one hidden test case of this binary; for what only processes can do.
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

/// fork and exec; the test case is one marked with doctest::skip(). Killed at the latest when the
/// object goes.
class child_process {
public:
    /// `argument` is what child_argument() returns over there.
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

    /// SIGKILL; the process is gone, its number is free.
    void kill() {
        if (pid_ <= 0)
            return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

    /// SIGSTOP; returns when all its threads stand.
    void freeze() {
        ::kill(pid_, SIGSTOP);
        int status = 0;
        REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
        REQUIRE(WIFSTOPPED(status));
    }

private:
    pid_t pid_ = -1;
};

/// Empty when this process was not made by child_process.
inline std::string child_argument() {
    const auto* text = std::getenv("KVFERRY_TEST_ARGUMENT");
    return text ? text : "";
}

} // namespace kvferry::testing
