// SPDX-License-Identifier: Apache-2.0
// Programs that are not ours: whether they are here, and one that runs beside the test.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

extern char** environ;

namespace kvferry::testing {

/// A folder that goes with the test.
struct scratch {
    std::filesystem::path path = [] {
        auto name = (std::filesystem::temp_directory_path() / "kvferry-test-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        return name;
    }();
    ~scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

/// Says that the test is skipped when it is not.
inline bool is_installed(const std::string& program, const std::string& package) {
    std::istringstream folders{std::getenv("PATH")};
    for (std::string folder; std::getline(folders, folder, ':');)
        if (::access((folder + "/" + program).c_str(), X_OK) == 0)
            return true;
    std::printf("skipped: %s is not installed (tools/dependencies %s)\n", program.c_str(),
                package.c_str());
    return false;
}

/// Another program, with its output in a pipe; killed at the latest at the end.
class program {
public:
    explicit program(std::vector<std::string> words, int input = -1) {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        output_ = unique_fd{ends[0]};
        const unique_fd theirs{ends[1]};
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        if (input >= 0)
            ::posix_spawn_file_actions_adddup2(&actions, input, 0);
        ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 1);
        ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 2);
        std::vector<char*> pointers;
        for (auto& word : words)
            pointers.push_back(word.data());
        pointers.push_back(nullptr);
        REQUIRE(::posix_spawnp(&pid_, pointers[0], &actions, nullptr, pointers.data(), environ)
                == 0);
        ::posix_spawn_file_actions_destroy(&actions);
    }
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    ~program() { kill(); }

    /// Reads until the output has this, or ends, or 60 s have passed.
    bool says(const std::string& text) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{60};
        while (said.find(text) == said.npos) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                until - std::chrono::steady_clock::now());
            pollfd waiting{output_.get(), POLLIN, 0};
            if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0)
                return false;
            char bytes[4096];
            const auto count = ::read(output_.get(), bytes, sizeof bytes);
            if (count <= 0)
                return false;
            said.append(bytes, static_cast<std::size_t>(count));
        }
        return true;
    }

    void kill() {
        if (pid_ <= 0)
            return;
        ::kill(pid_, SIGKILL);
        ::waitpid(std::exchange(pid_, -1), nullptr, 0);
    }

    pid_t pid() const { return pid_; }

    int status() {
        says(std::string{"\0", 1}); // until the end
        int result = -1;
        ::waitpid(std::exchange(pid_, -1), &result, 0);
        return result;
    }

    std::string said;

private:
    pid_t pid_ = -1;
    unique_fd output_;
};

} // namespace kvferry::testing
