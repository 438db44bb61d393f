// SPDX-License-Identifier: Apache-2.0
// One side of the demo as a child process: a pipe each way, and an end that is always told.
#pragma once

#include "tools/demo/lines.hpp"
#include "tools/demo/protocol.hpp"

#include <chrono>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace kvferry::demo {

/// Runs `kvferry demo-side` and takes it along: the child dies with its parent, and is gone when
/// this object is.
class side_process {
public:
    /// `name` is "context" or "generation". Throws std::system_error.
    explicit side_process(std::string name);
    side_process(const side_process&) = delete;
    side_process& operator=(const side_process&) = delete;
    ~side_process(); ///< kills what still runs

    template <class Message>
    void tell(const Message& message) {
        writer_.write(encode(message));
    }

    line_handlers& handlers() noexcept { return handlers_; }

    /// Handles every whole line that has come. Throws what handlers throw.
    void handle_lines();

    /// Closes its stdin, which makes an idle or stuck side stop, and waits. When the deadline
    /// passes the child is killed. Returns how it ended; empty after status 0, and when called
    /// again.
    std::string finish(std::chrono::milliseconds deadline);

    line_reader& reader() noexcept { return reader_; }
    line_writer& writer() noexcept { return writer_; }
    const std::string& name() const noexcept { return name_; }
    pid_t pid() const noexcept { return pid_; }

private:
    struct ends; // of the two pipes
    side_process(std::string name, ends pipes);

    std::string name_;
    line_reader reader_;
    line_writer writer_;
    line_handlers handlers_;
    pid_t pid_ = -1;
    bool reaped_ = false;
};

} // namespace kvferry::demo
