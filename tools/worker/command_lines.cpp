// SPDX-License-Identifier: Apache-2.0
// Three descriptors under one poll.
#include "tools/worker/command_lines.hpp"

#include "transport/loop/threads.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace kvferry::tools {

namespace {

constinit std::atomic<int> terminate_fd{-1};

void on_terminate(int) {
    const int before = errno;
    ::eventfd_write(terminate_fd, 1);
    errno = before;
}

} // namespace

command_lines::command_lines()
    : terminate_(::eventfd(0, EFD_CLOEXEC)), over_(::eventfd(0, EFD_CLOEXEC)) {
    terminate_fd = terminate_.get();
    std::signal(SIGTERM, on_terminate);
}

command_lines::~command_lines() {
    std::signal(SIGTERM, SIG_DFL);
    terminate_fd = -1;
}

command_lines::what command_lines::next(std::string& line) {
    for (;;) {
        if (take_line(line))
            return what::line;
        if (ended_ && !std::exchange(end_told_, true))
            return what::end_of_input;
        // A negative descriptor is left out.
        std::array<pollfd, 3> waiting{pollfd{over_.get(), POLLIN, 0},
                                      pollfd{terminate_.get(), POLLIN, 0},
                                      pollfd{ended_ ? -1 : STDIN_FILENO, POLLIN, 0}};
        if (::poll(waiting.data(), waiting.size(), -1) <= 0)
            continue;
        if (waiting[0].revents != 0)
            return what::drained;
        if (waiting[1].revents != 0) {
            eventfd_t ignored = 0;
            ::eventfd_read(terminate_.get(), &ignored);
            return what::terminate;
        }
        std::array<char, 65536> buffer;
        const auto bytes = ::read(STDIN_FILENO, buffer.data(), buffer.size());
        if (bytes > 0) {
            unread_.append(buffer.data(), static_cast<std::size_t>(bytes));
            continue;
        }
        ended_ = true;
        if (!unread_.empty())
            unread_ += '\n'; // a last line without its end
    }
}

bool command_lines::take_line(std::string& line) {
    const auto end = unread_.find('\n');
    if (end == std::string::npos)
        return false;
    line = unread_.substr(0, end);
    unread_.erase(0, end + 1);
    return true;
}

void command_lines::is_over() const {
    ::eventfd_write(over_.get(), 1);
}

caf::expected<bool> command_lines::ends_before_terminate(std::function<void()> what) const {
    auto thread = make_thread("the start of a rank", [this, what = std::move(what)] {
        what();
        is_over();
    });
    if (!thread)
        return std::move(thread.error());
    std::array<pollfd, 2> waiting{pollfd{over_.get(), POLLIN, 0},
                                  pollfd{terminate_.get(), POLLIN, 0}};
    while (::poll(waiting.data(), waiting.size(), -1) <= 0)
        ;
    if (waiting[0].revents == 0) {
        thread->detach();
        return false;
    }
    thread->join();
    eventfd_t ignored = 0;
    ::eventfd_read(over_.get(), &ignored);
    return true;
}

} // namespace kvferry::tools
