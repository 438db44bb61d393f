// SPDX-License-Identifier: Apache-2.0
// The instants of every message, in a fixed ring per thread: the newest events are always there.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace kvferry::trace {

/// The three instants of a message.
enum class instant : std::uint8_t { sent = 0, dequeued = 1, done = 2 };

/// One instant. The texts are names with static storage, never contents.
struct event {
    std::uint64_t ticks = 0;
    std::string_view actor;
    std::string_view message;
    std::uint64_t rid = 0;
    instant what = instant::sent;
};

/// Events that one thread keeps; older ones are overwritten and counted.
inline constexpr std::size_t ring_events = 4096;

/// Records one instant on the calling thread. Never blocks, never allocates after the first call.
void record(instant, std::string_view actor, std::string_view message, std::uint64_t rid) noexcept;

/// What the calling thread recorded, oldest first, and how many events were overwritten.
struct snapshot {
    std::vector<event> events;
    std::uint64_t overwritten = 0;
};
snapshot this_thread();

} // namespace kvferry::trace
