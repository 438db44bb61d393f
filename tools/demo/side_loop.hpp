// SPDX-License-Identifier: Apache-2.0
// The one thread of a side that touches its engine: takes the orchestrator's lines, what sessions
// tell, and between them the engine's work, in that order.
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

    /// Work of the engine, to be cut in steps that take milliseconds. add_work() queues it behind
    /// other work, next_work() before it: what goes on with what was begun.
    void add_work(task work) { work_.push_back(std::move(work)); }
    void next_work(task work) { work_.push_front(std::move(work)); }

    /// Until stop() or until the orchestrator's pipe ends. Throws what tasks throw.
    void run();
    void stop() noexcept { running_ = false; }

    /// Waits until everything told has left, at most a second.
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
