// SPDX-License-Identifier: Apache-2.0
// Adds the time between its construction and its destruction to a sum.
#pragma once

#include <chrono>

namespace kvferry::demo {

class stopwatch {
public:
    explicit stopwatch(double& seconds)
        : seconds_(seconds), began_(std::chrono::steady_clock::now()) {}
    stopwatch(const stopwatch&) = delete;
    stopwatch& operator=(const stopwatch&) = delete;
    ~stopwatch() {
        seconds_ +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    }

private:
    double& seconds_;
    std::chrono::steady_clock::time_point began_;
};

} // namespace kvferry::demo
