// SPDX-License-Identifier: Apache-2.0
// The rings of all threads, and how they are read while they are written.
#include "messages/trace/trace.hpp"

#include <algorithm>
#include <bit>
#include <ctime>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace kvferry::trace {

namespace {

using detail::event_words;
using detail::words_per_event;

/// Only its own thread writes. A reader copies events first and then drops those that may have been
/// overwritten meanwhile.
struct ring : detail::ring_writing {
    explicit ring(std::size_t size) : memory(new event_words[size]) {
        events = memory.get();
        capacity = size;
    }

    const std::unique_ptr<event_words[]> memory; // not initialized: pages are touched when used
    // Guarded by the registry's mutex.
    std::uint32_t number = 0;
    std::string rank;
    std::string role;
};

struct registry {
    std::mutex mutex;
    std::deque<std::shared_ptr<ring>> living;
    std::deque<std::shared_ptr<ring>> ended;
    std::uint32_t threads = 0;
    clock_pair started = clock_now();
};

registry& all() {
    static auto* instance = new registry; // threads may end after static destructors
    return *instance;
}

constinit std::atomic<std::size_t> kept_events{ring_events};
/// True once the thread's ring is gone: later events are dropped.
constinit thread_local bool over = false;

/// Moves the ring to `ended` when the thread ends; its events can still be collected.
struct ring_owner {
    std::shared_ptr<ring> held;

    ~ring_owner() {
        detail::ring_of_thread = nullptr;
        over = true;
        std::lock_guard guard{all().mutex};
        std::erase(all().living, held);
        all().ended.push_back(std::move(held));
        if (all().ended.size() > ended_threads_kept)
            all().ended.pop_front();
    }
};

ring& make_mine() {
    thread_local ring_owner owner;
    if (!owner.held) {
        owner.held = std::make_shared<ring>(kept_events.load(std::memory_order_relaxed));
        std::lock_guard guard{all().mutex};
        owner.held->number = all().threads++;
        all().living.push_back(owner.held);
    }
    detail::ring_of_thread = owner.held.get();
    return *owner.held;
}

ring* mine() {
    return static_cast<ring*>(detail::ring_of_thread);
}

std::uint64_t monotonic_ns() noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000
           + static_cast<std::uint64_t>(time.tv_nsec);
}

/// Appends the events from `first` on that are still there; `first` becomes the next one to read.
/// Returns how many are lost. `writing`: another thread may write meanwhile.
std::uint64_t read(ring& from, std::uint64_t& first, std::vector<event>& into, bool writing) {
    const auto end = std::atomic_ref{from.recorded}.load(std::memory_order_acquire);
    const auto oldest = end < from.capacity ? 0 : end - from.capacity;
    const auto begin = std::max(first, oldest);
    const auto size = into.size();
    for (auto index = begin; index < end; ++index) {
        event_words copy;
        for (std::size_t word = 0; word < words_per_event; ++word)
            copy[word] = std::atomic_ref{from.at(index)[word]}.load(std::memory_order_relaxed);
        into.push_back(std::bit_cast<event>(copy));
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    // The writer may be in the middle of the event after the last one that it has counted.
    const auto now_end =
        std::atomic_ref{from.recorded}.load(std::memory_order_relaxed) + (writing ? 1 : 0);
    const auto valid =
        std::clamp(now_end < from.capacity ? 0 : now_end - from.capacity, begin, end);
    into.erase(into.begin() + static_cast<std::ptrdiff_t>(size),
               into.begin() + static_cast<std::ptrdiff_t>(size + (valid - begin)));
    const auto kept = into.size() - size;
    const auto lost = end - first - kept;
    first = end;
    return lost;
}

} // namespace

namespace detail {

ring_writing* first_ring() noexcept {
    return over ? nullptr : &make_mine();
}

std::uint64_t clock_ns() noexcept {
    return monotonic_ns();
}

} // namespace detail

void use_clock(std::uint64_t (*virtual_nanoseconds)()) noexcept {
    detail::virtual_clock.store(virtual_nanoseconds, std::memory_order_relaxed);
}

void enable(bool on) noexcept {
    detail::enabled.store(on, std::memory_order_relaxed);
}

void keep_events(std::size_t count) noexcept {
    kept_events.store(count, std::memory_order_relaxed);
}

clock_pair clock_now() noexcept {
    if (detail::virtual_clock.load(std::memory_order_relaxed)) {
        const auto nanoseconds = now();
        return {nanoseconds, nanoseconds};
    }
    // The clocks are read one after the other. The fastest of a few tries counts: a thread that
    // loses its processor between the reads would shift all events of its process.
    constexpr int tries = 5;
    clock_pair result;
    auto least = ~std::uint64_t{0};
    for (int count = 0; count < tries; ++count) {
        const auto before = now();
        const auto nanoseconds = monotonic_ns();
        const auto taken = now() - before;
        if (taken < least) {
            least = taken;
            result = {before + taken / 2, nanoseconds};
        }
    }
    return result;
}

std::int64_t monotonic_began_at() noexcept {
    if (detail::virtual_clock.load(std::memory_order_relaxed))
        return 0;
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec
           - static_cast<std::int64_t>(monotonic_ns());
}

clock_pair first_clock() noexcept {
    return detail::virtual_clock.load(std::memory_order_relaxed) ? clock_pair{} : all().started;
}

void name_thread(std::string rank, std::string role) {
    if (!mine() && over)
        return;
    auto& to = mine() ? *mine() : make_mine();
    std::lock_guard guard{all().mutex};
    to.rank = std::move(rank);
    to.role = std::move(role);
}

snapshot this_thread() {
    snapshot result;
    std::uint64_t first = 0;
    if (auto* ring = mine())
        result.overwritten = read(*ring, first, result.events, false);
    return result;
}

std::vector<thread_events> collector::collect() {
    std::vector<std::shared_ptr<ring>> rings;
    std::vector<thread_events> result;
    {
        std::lock_guard guard{all().mutex};
        rings.assign(all().ended.begin(), all().ended.end());
        rings.insert(rings.end(), all().living.begin(), all().living.end());
        next_.resize(all().threads);
        for (const auto& ring : rings)
            result.push_back({ring->number, ring->rank, ring->role, 0, {}});
    }
    for (std::size_t i = 0; i < rings.size(); ++i)
        result[i].lost = read(*rings[i], next_[rings[i]->number], result[i].events, true);
    std::erase_if(result, [](const thread_events& x) { return x.events.empty() && x.lost == 0; });
    return result;
}

} // namespace kvferry::trace
