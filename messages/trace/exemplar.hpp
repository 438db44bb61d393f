// SPDX-License-Identifier: Apache-2.0
// One request that a bucket of a histogram has counted, for whoever asks "which one?".
#pragma once

#include "messages/values/trace_parent.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace kvferry {

/// How a request is found again: by its number, and by its trace where that is kept.
struct request_trace {
    std::uint64_t rid = 0;
    /// 0 together: there is none, or it is not sampled.
    std::uint64_t trace_high = 0;
    std::uint64_t trace_low = 0;

    void join(const trace_parent& parent) {
        const bool sampled = (parent.flags & 1) != 0;
        trace_high = sampled ? parent.trace_high : 0;
        trace_low = sampled ? parent.trace_low : 0;
    }

    friend bool operator==(const request_trace&, const request_trace&) = default;
};

struct exemplar {
    request_trace request;
    std::chrono::nanoseconds value{0};
    /// Since 1970.
    std::chrono::nanoseconds at{0};
};

/// Keeps the first exemplar that is offered after each look at it: any thread may offer and look,
/// and none ever waits. An offer that nobody has looked for costs one load.
class exemplar_slot {
public:
    void offer(const request_trace& request, std::chrono::nanoseconds value) {
        if (state_.load(std::memory_order_relaxed) == state::looked_at)
            keep(request, value);
    }

    /// The newest, also when it was seen before; none while another thread is at it.
    std::optional<exemplar> look() {
        auto now = state_.load(std::memory_order_relaxed);
        if (now == state::busy
            || !state_.compare_exchange_strong(now, state::busy, std::memory_order_acquire))
            return std::nullopt;
        const auto result = kept_;
        state_.store(state::looked_at, std::memory_order_release);
        return result.request.rid == 0 ? std::nullopt : std::optional{result};
    }

private:
    enum class state : std::uint8_t { looked_at, busy, fresh };

    [[gnu::noinline]] void keep(const request_trace& request, std::chrono::nanoseconds value) {
        auto expected = state::looked_at;
        if (!state_.compare_exchange_strong(expected, state::busy, std::memory_order_acquire))
            return;
        kept_ = {request, value, std::chrono::system_clock::now().time_since_epoch()};
        state_.store(state::fresh, std::memory_order_release);
    }

    std::atomic<state> state_{state::looked_at};
    exemplar kept_;
};

} // namespace kvferry
