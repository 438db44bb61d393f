// SPDX-License-Identifier: Apache-2.0
// What happens to every message, in a fixed ring per thread: the newest events are always there.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvferry::trace {

/// The instants of messages, of I/O operations and of actors. Recordings contain the numbers:
/// append only.
enum class instant : std::uint8_t {
    sent = 0,
    dequeued = 1,
    done = 2,
    /// Sent as a question; `number` is the question's, unique at the asking actor.
    asked = 3,
    /// The answer to question `number` is handled.
    answered = 4,
    /// An I/O operation was taken on; `key` is its transfer_id, `message` says by which route.
    io_begin = 5,
    /// It has ended; `number` is the bytes it moved.
    io_end = 6,
    /// A message left for, or came from, another rank; `key` is the same at both ends.
    wire_sent = 7,
    wire_received = 8,
    /// The actor has ended: what was still in its mailbox is dropped.
    actor_ended = 9,
    /// The session belongs to a span of the engine's own trace (W3C's traceparent): `key` and the
    /// two ids, the asking actor's first, are the trace's id; `attempt` is the span, `number` the
    /// flags.
    joined_trace = 10,
};
inline constexpr std::size_t instant_count = 11;

/// What event::number says of a slice that a host hands over, and of the end of a session, where
/// the message is handled.
constexpr std::uint64_t number_of_slice(std::uint32_t token_begin, std::uint32_t token_end,
                                        bool last) {
    constexpr std::uint64_t tokens_max = 0xff'ffff;
    return (std::uint64_t{last} << 48) | ((token_begin & tokens_max) << 24)
           | (token_end & tokens_max);
}
constexpr std::uint64_t number_of_end(std::uint8_t state, std::uint8_t reason) {
    return (std::uint64_t{reason} << 8) | state;
}

/// One instant, a cache line. Texts have static storage and end with a NUL.
struct event {
    std::uint64_t ticks = 0;
    const char* actor = "";
    const char* message = "";
    std::uint64_t rid = 0;
    std::uint64_t attempt = 0;
    /// Equal for events that belong together. A message inside a process has one value from sent to
    /// done, which is used again afterwards; 0: unknown.
    std::uint64_t key = 0;
    /// CAF's ids, cut to 32 bits: the actor where it happened, and the one it is sent to.
    std::uint32_t actor_id = 0;
    std::uint32_t peer_id = 0;
    /// Bytes, the number of a question, or what number_of_slice and number_of_end say.
    std::uint64_t number : 56 = 0;
    instant what : 8 = instant::sent;
};
static_assert(sizeof(event) == 64);

/// Events that one thread keeps; older ones are overwritten and counted.
inline constexpr std::size_t ring_events = 16384;
/// The same while a recording is written: its writer may have to wait for a processor.
inline constexpr std::size_t ring_events_recorded = 16 * ring_events;

namespace detail {

inline constexpr std::size_t words_per_event = sizeof(event) / sizeof(std::uint64_t);
using event_words = std::array<std::uint64_t, words_per_event>;

/// Where a thread writes: only itself does. Events are copied word by word, so that each word that
/// a reader sees is old or new, never torn.
struct ring_writing {
    event_words* events = nullptr;
    std::uint64_t capacity = 0;
    std::uint64_t recorded = 0;

    event_words& at(std::uint64_t index) { return events[index & (capacity - 1)]; }
};

inline constinit thread_local ring_writing* ring_of_thread = nullptr;
inline constinit std::atomic<bool> enabled{true};
inline constinit std::atomic<std::uint64_t (*)()> virtual_clock{nullptr};

/// Null: the thread is ending.
ring_writing* first_ring() noexcept;
std::uint64_t clock_ns() noexcept;

} // namespace detail

/// Ticks of events; on x86 the time-stamp counter. `clock_now` relates them to CLOCK_MONOTONIC.
inline std::uint64_t now() noexcept {
    if (auto* clock = detail::virtual_clock.load(std::memory_order_relaxed)) [[unlikely]]
        return clock();
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc(); // a third of the cost of a clock call
#else
    return detail::clock_ns();
#endif
}

/// All events of the process take their ticks from this clock, in nanoseconds; null: the real
/// clock.
void use_clock(std::uint64_t (*virtual_nanoseconds)()) noexcept;

/// Off: record() returns at once. Only for measuring what recording costs.
void enable(bool) noexcept;

/// Threads that record for the first time from now on keep this many events; a power of two.
void keep_events(std::size_t) noexcept;

/// Records on the calling thread; never blocks, allocates in a thread's first call only. Inline: an
/// event is made in the ring itself.
inline void record(const event& x) noexcept {
    if (!detail::enabled.load(std::memory_order_relaxed)) [[unlikely]]
        return;
    auto* to = detail::ring_of_thread;
    if (!to) [[unlikely]] {
        to = detail::first_ring();
        if (!to)
            return;
    }
    const auto* from = reinterpret_cast<const char*>(&x);
    auto& place = to->at(to->recorded);
    const auto copy = [from, &place](std::size_t word) {
        std::uint64_t value;
        std::memcpy(&value, from + word * sizeof value, sizeof value);
        std::atomic_ref{place[word]}.store(value, std::memory_order_relaxed);
    };
    std::atomic_thread_fence(std::memory_order_release);
    // One by one: a loop takes three times as long.
    const auto copy_all = [&copy]<std::size_t... words>(std::index_sequence<words...>) {
        (copy(words), ...);
    };
    copy_all(std::make_index_sequence<detail::words_per_event>{});
    std::atomic_ref{to->recorded}.store(to->recorded + 1, std::memory_order_release);
}

/// Two clocks at one instant.
struct clock_pair {
    std::uint64_t ticks = 0;
    std::uint64_t monotonic_ns = 0;
};
clock_pair clock_now() noexcept;
/// Nanoseconds since 1970 where CLOCK_MONOTONIC has 0; 0 with a clock of use_clock.
std::int64_t monotonic_began_at() noexcept;
/// The clocks at the process's first event; with a later pair they give the rate of the ticks.
clock_pair first_clock() noexcept;

/// Says which rank and role the calling thread serves: "context/0" and "loop". Unnamed threads
/// belong to the process.
void name_thread(std::string rank, std::string role);

/// What the calling thread recorded, oldest first, and how many events were overwritten.
struct snapshot {
    std::vector<event> events;
    std::uint64_t overwritten = 0;
};
snapshot this_thread();

/// New events of one thread. `lost` counts those that were overwritten before they were collected.
struct thread_events {
    std::uint32_t thread = 0;
    std::string rank;
    std::string role;
    std::uint64_t lost = 0;
    std::vector<event> events;
};

/// Reads the rings of all threads from any one thread, each event once. A collector starts with
/// what the rings still hold.
class collector {
public:
    /// Threads that recorded or lost something since the last call.
    std::vector<thread_events> collect();

private:
    std::vector<std::uint64_t> next_; // by thread number
};

/// Rings of ended threads that are kept for a collector; the oldest ones go first.
inline constexpr std::size_t ended_threads_kept = 32;

} // namespace kvferry::trace
