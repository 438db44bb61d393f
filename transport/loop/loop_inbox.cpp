// SPDX-License-Identifier: Apache-2.0
#include "transport/loop/loop_inbox.hpp"

#include "transport/loop/system_call.hpp"

#include <sys/eventfd.h>
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
    std::lock_guard guard{mutex_};
    if (ended_)
        return false;
    turns_.push_back(whose);
    has_mail_.store(true, std::memory_order_relaxed);
    if (asleep_)
        wakes_.fetch_add(1, std::memory_order_relaxed);
    wake();
    return true;
}

void loop_inbox::stop() {
    std::lock_guard guard{mutex_};
    stopping_ = true;
    wake();
}

void loop_inbox::close() {
    std::lock_guard guard{mutex_};
    ended_ = true;
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

/// Under the lock, so that nobody writes to a descriptor that is closed.
void loop_inbox::wake() {
    if (std::exchange(asleep_, false))
        ::eventfd_write(wake_fd_.get(), 1);
}

} // namespace kvferry
