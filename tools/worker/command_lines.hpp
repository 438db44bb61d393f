// SPDX-License-Identifier: Apache-2.0
// What a rank process is told from outside: lines of standard input, SIGTERM, and that its start or
// its drain is over.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <caf/expected.hpp>

#include <functional>
#include <string>

namespace kvferry::tools {

/// While it exists, SIGTERM is read here, on whichever thread it arrives: blocking it would not do,
/// since libraries start threads when they are loaded, before us. One per process.
class command_lines {
public:
    command_lines();
    ~command_lines();
    command_lines(const command_lines&) = delete;
    command_lines& operator=(const command_lines&) = delete;

    enum class what { line, end_of_input, terminate, drained };

    /// Waits for the next thing. After the end of input no further lines come.
    what next(std::string& line);

    /// Makes next() return `drained`. From any thread.
    void is_over() const;

    /// Runs something on a thread of its own, and takes no lines meanwhile. False: SIGTERM came
    /// first, and it still runs.
    caf::expected<bool> ends_before_terminate(std::function<void()>) const;

private:
    bool take_line(std::string& line);

    unique_fd terminate_;
    unique_fd over_;
    std::string unread_;
    bool ended_ = false;
    bool end_told_ = false;
};

} // namespace kvferry::tools
