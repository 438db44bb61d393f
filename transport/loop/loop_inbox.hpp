// SPDX-License-Identifier: Apache-2.0
// What other threads hand to a loop, and how they wake it.
//
// Actors share it with their loop: a thread may tell an actor something while that ends, and its
// loop with it.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/resident.hpp"
#include "transport/loop/unique_fd.hpp"

#include <caf/resumable.hpp>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

namespace kvferry {

/// Whose turn it is: an actor or call with a reference of ours, or one errand.
struct loop_turn {
    caf::resumable* job = nullptr;
    errand* what = nullptr;
};

/// Jobs and messages handed from one thread to another in this process.
inline constinit std::atomic<std::uint64_t> thread_hops{0};

class loop_inbox final : public home_door {
public:
    /// system_call_failed without a descriptor.
    static caf::expected<std::shared_ptr<loop_inbox>> make();

    // -- from any thread ------------------------------------------------------------------------

    errand_ptr hand_in(errand_ptr) override;
    /// False: the loop has ended.
    bool hand_in(loop_turn);
    /// The loop ends once it has nothing to do.
    void stop();
    /// The loop is gone, and its descriptor with it, whoever still holds the inbox.
    void close();
    std::uint64_t wakes() const { return wakes_.load(std::memory_order_relaxed); }

    // -- on the loop's thread -------------------------------------------------------------------

    /// There may be something in it.
    bool has_mail() const { return has_mail_.load(std::memory_order_relaxed); }
    /// All that has come; `into` is empty.
    void take(std::deque<loop_turn>& into);
    /// From now on whatever comes writes to wake_fd(). False: something has come already, or the
    /// loop has to end.
    bool may_sleep();
    /// The loop is awake. True: it is `idle` and has to end, and nothing can come any more.
    bool woken(bool idle);
    int wake_fd() const { return wake_fd_.get(); }

private:
    loop_inbox() = default;
    void wake(std::unique_lock<std::mutex>);

    unique_fd wake_fd_;
    std::mutex mutex_;
    std::deque<loop_turn> turns_;
    std::atomic<bool> has_mail_{false};
    bool asleep_ = false;
    bool stopping_ = false;
    bool ended_ = false;
    /// Threads that write to wake_fd_: it stays open until they have.
    std::atomic<int> wakers_{0};
    std::atomic<std::uint64_t> wakes_{0};
};

} // namespace kvferry
