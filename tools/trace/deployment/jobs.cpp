// SPDX-License-Identifier: Apache-2.0
// A thread more whenever nobody is free for a job, up to the limit.
#include "tools/trace/deployment/jobs.hpp"

#include <utility>

namespace kvferry::tracing {

void jobs::add(std::function<void()> job) {
    std::lock_guard lock{mutex_};
    waiting_.push_back(std::move(job));
    ++undone_;
    if (idle_ < waiting_.size() && threads_.size() < threads_max_)
        threads_.emplace_back([this] { work(); });
    changed_.notify_all();
}

void jobs::wait() {
    std::vector<std::thread> ended;
    {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [this] { return undone_ == 0; });
        over_ = true;
        ended.swap(threads_);
        changed_.notify_all();
    }
    for (auto& each : ended)
        each.join();
}

void jobs::work() {
    std::unique_lock lock{mutex_};
    for (;;) {
        ++idle_;
        changed_.wait(lock, [this] { return over_ || !waiting_.empty(); });
        --idle_;
        if (waiting_.empty())
            return;
        auto job = std::move(waiting_.front());
        waiting_.pop_front();
        lock.unlock();
        job();
        lock.lock();
        --undone_;
        changed_.notify_all();
    }
}

} // namespace kvferry::tracing
