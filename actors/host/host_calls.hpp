// SPDX-License-Identifier: Apache-2.0
// The one way from a host's threads into a rank: open while the rank lives, in the process that
// started it, for so many calls at a time.
#pragma once

#include "actors/host/process_life.hpp"
#include "actors/host/quick_callback.hpp"
#include "messages/errors.hpp"
#include "messages/local/recycled.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace kvferry {

/// One per rank, shared by its session handles, which may outlive the rank. Thread-safe.
class host_calls : public std::enable_shared_from_this<host_calls> {
public:
    explicit host_calls(std::size_t waiting_max) : waiting_max_(waiting_max) {}

    /// While it lives, the rank's actors, their threads and their actor system exist.
    using visitor = std::shared_lock<std::shared_mutex>;

    /// Every call of a host begins here. unsupported in a forked child, else why the rank is
    /// closed.
    caf::expected<visitor> visit() const {
        if (auto problem = process_life::check())
            return problem;
        if (!closed_) {
            visitor result{mutex_};
            if (!closed_)
                return result;
        }
        std::lock_guard lock{reason_mutex_};
        return reason_;
    }

    /// The same for a call that waits for the rank; unsupported in a quick callback.
    caf::expected<visitor> visit_and_wait() const {
        if (auto problem = check_may_wait())
            return problem;
        return visit();
    }

    /// From now on calls are refused for this reason. Returns when those under way have ended.
    void close(caf::error reason) {
        {
            std::lock_guard lock{reason_mutex_};
            reason_ = std::move(reason);
        }
        closed_ = true; // before the lock: otherwise new calls could keep this one waiting
        std::lock_guard wait_for_visitors{mutex_};
    }

    /// The same rank, made anew.
    void reopen() { closed_ = false; }

    /// Takes a place for one call in the rank's mailboxes. It is free again when the result is
    /// destroyed, together with the message that carries it, handled or dropped. Null: all places
    /// are taken.
    std::shared_ptr<const void> enter() {
        if (waiting_.fetch_add(1) >= waiting_max_) {
            waiting_.fetch_sub(1);
            return nullptr;
        }
        return {this, [self = shared_from_this()](const void*) { self->waiting_.fetch_sub(1); },
                recycling<host_calls>{}};
    }

    std::size_t waiting_max() const { return waiting_max_; }
    /// Calls that the rank's actors have not taken up yet.
    std::size_t waiting() const { return waiting_; }

private:
    const std::size_t waiting_max_;
    std::atomic<std::size_t> waiting_{0};
    mutable std::shared_mutex mutex_;
    std::atomic<bool> closed_{false};
    mutable std::mutex reason_mutex_;
    caf::error reason_;
};

} // namespace kvferry
