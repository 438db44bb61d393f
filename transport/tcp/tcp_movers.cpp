// SPDX-License-Identifier: Apache-2.0
// One queue of calls for all threads, one of results for the loop.
#include "transport/tcp/tcp_movers.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/held_call.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"
#include "transport/tcp/small_parts.hpp"

#include <exception>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <utility>

namespace kvferry {

/// With fewer threads than it was asked for it goes on with those; without any it has no room.
void tcp_movers::start() {
    wake_fd_ = unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!wake_fd_)
        return;
    auto watched = poll_.watch(wake_fd_.get(), EPOLLIN | EPOLLET, *this);
    if (!watched)
        return;
    registration_ = std::move(*watched);
    while (threads_.size() < threads_max_) {
        auto made = make_thread("bulk bytes", [this] { run(); });
        if (!made) {
            logger().warn("tcp wire: {} of {} threads move bulk bytes: {}", threads_.size(),
                          threads_max_, describe(made.error()));
            break;
        }
        threads_.push_back(std::move(*made));
    }
}

void tcp_movers::prepare() {
    if (!std::exchange(prepared_, true))
        start();
}

void tcp_movers::hand_over(call what) {
    ++out_;
    {
        std::lock_guard guard{mutex_};
        waiting_.push_back(what);
    }
    more_.notify_one();
}

bool tcp_movers::give_back() {
    if (!has_made_.load(std::memory_order_acquire))
        return false;
    {
        std::lock_guard guard{mutex_};
        has_made_.store(false, std::memory_order_relaxed);
        asleep_ = false;
        giving_.swap(made_);
    }
    for (auto& x : giving_) {
        --out_;
        x.whose->handed_back(std::move(x.moved));
    }
    giving_.clear();
    return true;
}

bool tcp_movers::may_sleep() {
    if (out_ == 0)
        return true;
    std::lock_guard guard{mutex_};
    asleep_ = made_.empty();
    return asleep_;
}

void tcp_movers::stop() noexcept {
    {
        std::lock_guard guard{mutex_};
        stopping_ = true;
    }
    more_.notify_all();
    for (auto& thread : threads_)
        thread.join();
    threads_.clear();
    prepared_ = true;
    registration_.reset();
    for (const auto& x : std::exchange(waiting_, {})) // nobody has begun them
        made_.push_back({x.whose, {.blocked = true}});
    has_made_ = !made_.empty();
}

void tcp_movers::run() {
    ::pthread_setname_np(::pthread_self(), "kvferry-bulk");
    std::unique_lock guard{mutex_};
    for (;;) {
        more_.wait(guard, [this] { return stopping_ || !waiting_.empty(); });
        if (stopping_)
            return;
        const auto what = waiting_.front();
        waiting_.pop_front();
        guard.unlock();
        wait_if_held(what.writes ? "bulk write" : "bulk read");
        auto moved = make(what);
        guard.lock();
        made_.push_back({what.whose, std::move(moved)});
        has_made_.store(true, std::memory_order_release);
        if (std::exchange(asleep_, false)) { // without the lock, which the loop takes at once
            guard.unlock();
            ::eventfd_write(wake_fd_.get(), 1);
            guard.lock();
        }
    }
}

bytes_moved tcp_movers::make(const call& what) noexcept {
    try {
        return what.writes ? write_parts(*what.stream, what.parts)
                           : read_parts(*what.stream, what.parts);
    } catch (const std::exception& error) {
        return {.problem = make_error(errc::handler_failed, "a stream failed: {}", error.what())};
    }
}

} // namespace kvferry
