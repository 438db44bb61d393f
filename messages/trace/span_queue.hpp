// SPDX-License-Identifier: Apache-2.0
// Sessions that have ended, as spans, on their way from the ranks to the thread that sends them.
#pragma once

#include "messages/errors.hpp"
#include "messages/wire/header.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace kvferry {

struct session_span {
    /// "prefill-3/0".
    std::shared_ptr<const std::string> rank = {};
    side role = side::context;
    std::uint64_t rid = 0;
    std::uint64_t attempt = 0;
    std::uint64_t trace_high = 0;
    std::uint64_t trace_low = 0;
    /// Not 0; `parent` is 0 where there is none.
    std::uint64_t id = 0;
    std::uint64_t parent = 0;
    /// Since 1970.
    std::chrono::nanoseconds begin{0};
    std::chrono::nanoseconds end{0};
    /// Until the peer was there; below zero: it never was.
    std::chrono::nanoseconds waited{-1};
    std::uint64_t bytes = 0;
    errc reason = errc::none;
};

/// Any thread offers and one thread takes. Nobody ever waits: what finds the queue full is dropped
/// and counted.
class span_queue {
public:
    static constexpr std::size_t spans_max = 4096;

    span_queue() {
        for (std::size_t index = 0; index < spans_max; ++index)
            slots_[index].turn.store(index, std::memory_order_relaxed);
    }

    /// False: there is no room.
    bool offer(session_span span) {
        auto at = next_in_.load(std::memory_order_relaxed);
        for (;;) {
            auto& slot = slots_[at % spans_max];
            const auto turn = slot.turn.load(std::memory_order_acquire);
            if (turn == at) {
                if (!next_in_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed))
                    continue;
                slot.span = std::move(span);
                slot.turn.store(at + 1, std::memory_order_release);
                return true;
            }
            if (turn < at) { // still there from one round before
                dropped_.fetch_add(1, std::memory_order_relaxed);
                return false;
            }
            at = next_in_.load(std::memory_order_relaxed);
        }
    }

    /// The oldest; false: there is none that is whole.
    bool take(session_span& into) {
        auto& slot = slots_[next_out_ % spans_max];
        if (slot.turn.load(std::memory_order_acquire) != next_out_ + 1)
            return false;
        into = std::move(slot.span);
        slot.turn.store(next_out_ + spans_max, std::memory_order_release);
        ++next_out_;
        return true;
    }

    /// Spans that found no room, or that nobody would take in the end.
    std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }
    std::uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }
    /// For who sends.
    void count_dropped(std::size_t spans) { dropped_.fetch_add(spans, std::memory_order_relaxed); }
    void count_sent(std::size_t spans) { sent_.fetch_add(spans, std::memory_order_relaxed); }

private:
    struct slot {
        /// Equal to the number of the offer that may fill it; one more once it is filled.
        std::atomic<std::size_t> turn{0};
        session_span span;
    };

    std::array<slot, spans_max> slots_;
    alignas(64) std::atomic<std::size_t> next_in_{0};
    alignas(64) std::size_t next_out_ = 0;
    std::atomic<std::uint64_t> dropped_{0};
    std::atomic<std::uint64_t> sent_{0};
};

} // namespace kvferry
