// SPDX-License-Identifier: Apache-2.0
// The one thread of a side that uses its engine. It handles the orchestrator's lines first, then
// callbacks of sessions, then the engine's work.
#pragma once

#include "tools/demo/lines.hpp"
#include "tools/demo/protocol.hpp"

#include <deque>
#include <functional>
#include <mutex>
#include <vector>

namespace kvferry::demo {

class side_loop {
public:
    using task = std::function<void()>;

    /// Takes over stdin and stdout; what libraries print goes to stderr from now on.
    side_loop();

    line_handlers& handlers() noexcept { return handlers_; }

    template <class Message>
    void tell(const Message& message) {
        writer_.write(encode(message));
    }

    /// From any thread: run this on the loop's thread, before any further work.
    void post(task);

    /// Work of the engine, cut into steps of some milliseconds. add_work() puts a step behind other
    /// work; next_work() puts it first, to continue what has begun.
    void add_work(task work) { work_.push_back(std::move(work)); }
    void next_work(task work) { work_.push_front(std::move(work)); }

    /// Runs until stop(), or until the orchestrator's pipe ends. Exceptions of tasks pass through.
    void run();
    void stop() noexcept { running_ = false; }

    /// Waits until all output has left, at most a second.
    void drain();

private:
    void wait();
    void run_posted();

    line_reader reader_;
    line_writer writer_;
    line_handlers handlers_;
    unique_fd wake_up_;
    std::mutex guard_; // of posted_: the inbox for callbacks of sessions
    std::vector<task> posted_;
    std::deque<task> work_;
    bool running_ = true;
};

} // namespace kvferry::demo
