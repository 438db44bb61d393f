// SPDX-License-Identifier: Apache-2.0
// One child process: this program again in another role, held by a pidfd and never left behind.
#pragma once

#include "board.hpp"

#include <csignal>
#include <map>
#include <poll.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <vector>

namespace experiment {

/// Environment on top of the referee's own.
using environment = std::map<std::string, std::string>;

class child_process {
public:
    /// `inherited` descriptors keep their numbers in the child, everything else closes on exec.
    child_process(const std::string& role, const environment& extra,
                  const std::vector<int>& inherited) {
        std::vector<std::string> words{"who_still_writes", "--role", role};
        for (const int fd : inherited) {
            words.emplace_back("--fd");
            words.emplace_back(std::to_string(fd));
        }
        std::vector<char*> arguments;
        for (auto& w : words)
            arguments.push_back(w.data());
        arguments.push_back(nullptr);
        const auto referee = getpid();
        pid_ = fork();
        check_posix(pid_ >= 0, "fork");
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            const rlimit no_core{0, 0}; // some cases end in an abort inside UCX
            setrlimit(RLIMIT_CORE, &no_core);
            if (getppid() != referee)
                _exit(126); // the referee died before the prctl() above
            for (const auto& [name, value] : extra)
                setenv(name.c_str(), value.c_str(), 1);
            execv("/proc/self/exe", arguments.data());
            _exit(127);
        }
        pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
        check_posix(pidfd_ >= 0, "pidfd_open");
    }

    ~child_process() {
        send(SIGKILL); // works on a stopped process too
        gone_within(5s);
        waitpid(pid_, nullptr, 0);
        close(pidfd_);
    }
    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;

    pid_t pid() const { return pid_; }
    int pidfd() const { return pidfd_; }

    void send(int signal) const { syscall(SYS_pidfd_send_signal, pidfd_, signal, nullptr, 0); }

    /// True once the pidfd is readable: every thread of the process is gone.
    bool gone_within(std::chrono::milliseconds limit) const {
        pollfd p{pidfd_, POLLIN, 0};
        return poll(&p, 1, static_cast<int>(limit.count())) == 1;
    }

    /// Sends SIGSTOP and returns only when the kernel says that all threads have stopped.
    void freeze() const {
        send(SIGSTOP);
        int status = 0;
        check_posix(waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status), "freeze");
    }
    void thaw() const { send(SIGCONT); }

private:
    pid_t pid_ = -1;
    int pidfd_ = -1;
};

} // namespace experiment
