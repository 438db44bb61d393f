// SPDX-License-Identifier: Apache-2.0
// poll() on stdin and on the inbox's eventfd.
#include "tools/demo/side_loop.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kvferry::demo {
namespace {

unique_fd take_over_stdout() {
    std::signal(SIGPIPE, SIG_IGN);
    unique_fd own{::dup(STDOUT_FILENO)};
    if (!own || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        throw std::system_error(errno, std::generic_category(), "dup of stdout");
    return own;
}

} // namespace

side_loop::side_loop()
    : reader_(unique_fd{::dup(STDIN_FILENO)}), writer_(take_over_stdout()),
      wake_up_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!wake_up_)
        throw std::system_error(errno, std::generic_category(), "eventfd");
}

void side_loop::post(task work) {
    const std::lock_guard lock{guard_};
    posted_.push_back(std::move(work));
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_up_.get(), &one, sizeof one);
}

void side_loop::run() {
    while (running_) {
        wait();
        while (auto line = reader_.next())
            handlers_.handle(*line);
        run_posted();
        if (running_ && !work_.empty()) {
            const auto work = std::move(work_.front());
            work_.pop_front();
            work();
        }
        if (reader_.ended())
            stop();
    }
}

/// Sleeps when there is no work. It needs no deadline: the pipe closes when the orchestrator ends.
void side_loop::wait() {
    std::array<pollfd, 3> watched{{{reader_.fd(), POLLIN, 0},
                                   {wake_up_.get(), POLLIN, 0},
                                   {writer_.pending() ? writer_.fd() : -1, POLLOUT, 0}}};
    ::poll(watched.data(), watched.size(), work_.empty() ? -1 : 0);
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(wake_up_.get(), &count, sizeof count);
    reader_.read_available();
    writer_.flush();
}

void side_loop::run_posted() {
    std::vector<task> tasks;
    {
        const std::lock_guard lock{guard_};
        tasks.swap(posted_);
    }
    for (const auto& run : tasks)
        run();
}

void side_loop::drain() {
    while (writer_.pending()) {
        pollfd watched{writer_.fd(), POLLOUT, 0};
        if (::poll(&watched, 1, 1000) <= 0)
            return;
        writer_.flush();
    }
}

} // namespace kvferry::demo
