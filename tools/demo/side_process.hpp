// SPDX-License-Identifier: Apache-2.0
// One side of the demo as a child process, with one pipe in each direction. Its end is always
// reported.
#pragma once

#include "tools/demo/lines.hpp"
#include "tools/demo/protocol.hpp"

#include <chrono>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace kvferry::demo {

/// Runs `kvferry demo-side` as a child. The child dies with its parent, and no later than this
/// object.
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

    /// Handles every complete line that has arrived. Exceptions of handlers pass through.
    void handle_lines();

    /// Closes the child's stdin, which makes an idle or stuck side stop, and waits. Kills the child
    /// at the deadline. Returns how it ended; empty after status 0, and on a second call.
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
