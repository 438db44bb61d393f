// SPDX-License-Identifier: Apache-2.0
// Counts the host's calls that wait for its rank, and so bounds the mailboxes that a host writes
// to.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

namespace kvferry {

/// One per rank, shared by its session handles. Thread-safe.
class host_calls : public std::enable_shared_from_this<host_calls> {
public:
    explicit host_calls(std::size_t waiting_max) : waiting_max_(waiting_max) {}

    /// Takes a place for one call. It is free again when the result is destroyed, together with the
    /// message that carries it, handled or dropped. Null: all places are taken.
    std::shared_ptr<const void> enter() {
        if (waiting_.fetch_add(1) >= waiting_max_) {
            waiting_.fetch_sub(1);
            return nullptr;
        }
        return {this, [self = shared_from_this()](const void*) { self->waiting_.fetch_sub(1); }};
    }

    std::size_t waiting_max() const { return waiting_max_; }

private:
    const std::size_t waiting_max_;
    std::atomic<std::size_t> waiting_{0};
};

} // namespace kvferry
