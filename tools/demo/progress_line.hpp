// SPDX-License-Identifier: Apache-2.0
// One line on stderr that changes while something takes long; nothing at all off a terminal.
#pragma once

#include <chrono>
#include <string>

namespace kvferry::demo {

class progress_line {
public:
    /// Silent unless `enabled` and stderr is a terminal.
    explicit progress_line(bool enabled);
    ~progress_line() { clear(); }

    /// Replaces the line; at most ten times a second, so that terminals keep up.
    void show(const std::string& text);
    void clear();

private:
    bool enabled_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point next_{};
};

} // namespace kvferry::demo
