// SPDX-License-Identifier: Apache-2.0
#include "transport/loop/loop_inbox.hpp"

#include "transport/loop/held_call.hpp"
#include "transport/loop/system_call.hpp"

#include <sys/eventfd.h>
#include <thread>
#include <utility>

namespace kvferry {

caf::expected<std::shared_ptr<loop_inbox>> loop_inbox::make() {
    std::shared_ptr<loop_inbox> result{new loop_inbox};
    if (!made_to_fail("eventfd"))
        result->wake_fd_ = unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!result->wake_fd_)
        return system_error(errc::system_call_failed, "eventfd", "raise the limit of descriptors");
    return result;
}

errand_ptr loop_inbox::hand_in(errand_ptr what) {
    if (!hand_in({nullptr, what.get()}))
        return what;
    (void)what.release();
    return nullptr;
}

bool loop_inbox::hand_in(loop_turn whose) {
    thread_hops.fetch_add(1, std::memory_order_relaxed);
    std::unique_lock guard{mutex_};
    if (ended_)
        return false;
    turns_.push_back(whose);
    has_mail_.store(true, std::memory_order_relaxed);
    if (asleep_)
        wakes_.fetch_add(1, std::memory_order_relaxed);
    wake(std::move(guard));
    return true;
}

void loop_inbox::stop() {
    std::unique_lock guard{mutex_};
    stopping_ = true;
    wake(std::move(guard));
}

/// Whoever writes to it has a system call left to make.
void loop_inbox::close() {
    {
        std::lock_guard guard{mutex_};
        ended_ = true;
        asleep_ = false;
    }
    while (wakers_.load(std::memory_order_acquire) > 0)
        std::this_thread::yield();
    wake_fd_ = {};
}

void loop_inbox::take(std::deque<loop_turn>& into) {
    if (!has_mail())
        return;
    std::lock_guard guard{mutex_};
    has_mail_.store(false, std::memory_order_relaxed);
    into.swap(turns_);
}

bool loop_inbox::may_sleep() {
    std::lock_guard guard{mutex_};
    asleep_ = turns_.empty() && !stopping_;
    return asleep_;
}

bool loop_inbox::woken(bool idle) {
    std::lock_guard guard{mutex_};
    asleep_ = false;
    ended_ = idle && stopping_ && turns_.empty();
    return ended_;
}

/// After the lock, or the loop would wake only to wait for it.
void loop_inbox::wake(std::unique_lock<std::mutex> guard) {
    if (!std::exchange(asleep_, false))
        return;
    wakers_.fetch_add(1, std::memory_order_relaxed);
    guard.unlock();
    wait_if_held("wake a loop");
    ::eventfd_write(wake_fd_.get(), 1);
    wakers_.fetch_sub(1, std::memory_order_release);
}

} // namespace kvferry
