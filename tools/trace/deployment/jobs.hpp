// SPDX-License-Identifier: Apache-2.0
// Jobs that wait most of their time, side by side.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kvferry::tracing {

class jobs {
public:
    explicit jobs(std::size_t threads_max) : threads_max_(threads_max) {}
    ~jobs() { wait(); }
    jobs(const jobs&) = delete;
    jobs& operator=(const jobs&) = delete;

    /// A job may add others. It must not throw.
    void add(std::function<void()>);

    /// Returns when all are done; the last call.
    void wait();

private:
    void work();

    const std::size_t threads_max_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> waiting_;
    std::size_t undone_ = 0;
    std::size_t idle_ = 0;
    bool over_ = false;
    std::vector<std::thread> threads_;
};

} // namespace kvferry::tracing
