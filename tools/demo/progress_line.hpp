// SPDX-License-Identifier: Apache-2.0
// One line on stderr that shows the progress of a long run; prints nothing without a terminal.
#pragma once

#include <chrono>
#include <string>

namespace kvferry::demo {

class progress_line {
public:
    /// Silent unless `enabled` and stderr is a terminal.
    explicit progress_line(bool enabled);
    ~progress_line() { clear(); }

    /// Replaces the line, at most ten times a second.
    void show(const std::string& text);
    void clear();

private:
    bool enabled_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point next_{};
};

} // namespace kvferry::demo
