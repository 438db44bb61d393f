// SPDX-License-Identifier: Apache-2.0
// A value that is told once, to whoever waits for it on another thread.
//
// std::promise makes a system call for every value, and allocates before anybody has asked. Here
// only a future that somebody has asked for costs that: most hosts hear by callback.
#pragma once

#include "messages/local/recycled.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace kvferry {

/// Thread-safe.
template <class T>
class promised {
public:
    promised() = default;
    promised(const promised&) = delete;
    promised& operator=(const promised&) = delete;

    /// The first value counts; nothing follows abandon().
    void set_value(T value) {
        std::lock_guard lock{mutex_};
        if (value_ || abandoned_)
            return;
        value_ = std::move(value);
        told_.store(true, std::memory_order_release);
        if (waited_for_)
            waited_for_->set_value(*value_);
    }

    /// What has not come never will: futures throw future_error (broken_promise).
    void abandon() {
        std::lock_guard lock{mutex_};
        abandoned_.store(true, std::memory_order_release);
        waited_for_.reset();
    }

    /// Null before it is told; it never changes. Never waits, also in a forked child.
    const T* value() const { return told_.load(std::memory_order_acquire) ? &*value_ : nullptr; }

    /// Told or abandoned: nobody has to wait any more. Never waits either.
    bool is_over() const { return value() || abandoned_.load(std::memory_order_acquire); }

    std::shared_future<T> future() {
        std::lock_guard lock{mutex_};
        if (future_.valid())
            return future_;
        std::promise<T> made{std::allocator_arg, recycling<T>{}};
        future_ = made.get_future().share();
        if (value_)
            made.set_value(*value_);
        else if (!abandoned_)
            waited_for_ = std::move(made);
        return future_;
    }

private:
    std::atomic<bool> told_{false};
    std::mutex mutex_;
    std::optional<T> value_;
    std::atomic<bool> abandoned_{false};
    std::optional<std::promise<T>> waited_for_;
    std::shared_future<T> future_;
};

} // namespace kvferry
