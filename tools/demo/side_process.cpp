// SPDX-License-Identifier: Apache-2.0
// fork and exec of this same program, and the ways in which a child ends.
#include "tools/demo/side_process.hpp"

#include <climits>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kvferry::demo {
namespace {

[[noreturn]] void fail(const char* call) {
    throw std::system_error(errno, std::generic_category(), call);
}

std::pair<unique_fd, unique_fd> make_pipe() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) < 0)
        fail("pipe2");
    return {unique_fd{fds[0]}, unique_fd{fds[1]}};
}

/// The path behind /proc/self/exe, so that `ps` shows the program's name.
std::string own_path() {
    std::array<char, PATH_MAX> path{};
    const auto length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
    return length < 0 ? "/proc/self/exe"
                      : std::string(path.data(), static_cast<std::size_t>(length));
}

/// Runs between fork and exec: makes system calls only.
[[noreturn]] void become_side(const char* path, const char* name, int in, int out, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool orphan = ::getppid() != parent; // the parent died before prctl()
    if (!orphan && ::dup2(in, STDIN_FILENO) >= 0 && ::dup2(out, STDOUT_FILENO) >= 0)
        ::execl(path, "kvferry", "demo-side", name, static_cast<char*>(nullptr));
    ::_exit(127);
}

std::string ending(int status) {
    if (WIFSIGNALED(status)) {
        const int signal = WTERMSIG(status);
        return "was killed by signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")";
    }
    return WEXITSTATUS(status) == 0 ? ""
                                    : "ended with status " + std::to_string(WEXITSTATUS(status));
}

} // namespace

struct side_process::ends {
    std::pair<unique_fd, unique_fd> to_side = make_pipe();
    std::pair<unique_fd, unique_fd> from_side = make_pipe();
};

side_process::side_process(std::string name) : side_process(std::move(name), ends{}) {}

side_process::side_process(std::string name, ends pipes)
    : name_(std::move(name)), reader_(std::move(pipes.from_side.first)),
      writer_(std::move(pipes.to_side.second)) {
    ::setenv("UCX_NET_DEVICES", "lo", 0); // both sides are here: the demo needs no other network
    const auto path = own_path();
    const auto parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0)
        fail("fork");
    if (pid_ == 0)
        become_side(path.c_str(), name_.c_str(), pipes.to_side.first.get(),
                    pipes.from_side.second.get(), parent);
}

side_process::~side_process() {
    if (!reaped_) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
}

void side_process::handle_lines() {
    reader_.read_available();
    while (auto line = reader_.next())
        handlers_.handle(*line);
}

std::string side_process::finish(std::chrono::milliseconds deadline) {
    writer_.close();
    if (std::exchange(reaped_, true))
        return {};
    std::string late;
    const unique_fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
    pollfd watched{process.get(), POLLIN, 0};
    if (::poll(&watched, 1, static_cast<int>(deadline.count())) <= 0) {
        ::kill(pid_, SIGKILL);
        late = "did not end within " + std::to_string(deadline.count()) + " ms and was killed";
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return late.empty() ? ending(status) : late;
}

} // namespace kvferry::demo
