// SPDX-License-Identifier: Apache-2.0
// The ring of message instants of one thread.
#include "messages/trace.hpp"

#include <array>
#include <chrono>

#if defined(__x86_64__)
#    include <x86intrin.h>
#endif

namespace kvferry::trace {

namespace {

struct ring {
    std::array<event, ring_events> events;
    std::uint64_t recorded = 0;
};

ring& mine() {
    thread_local ring instance;
    return instance;
}

std::uint64_t now_ticks() noexcept {
#if defined(__x86_64__)
    return __rdtsc(); // a third of the cost of a clock call
#else
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

} // namespace

void record(instant what, std::string_view actor, std::string_view message, std::uint64_t rid) noexcept {
    auto& to = mine();
    to.events[to.recorded++ % ring_events] = {now_ticks(), actor, message, rid, what};
}

snapshot this_thread() {
    const auto& from = mine();
    snapshot result;
    auto kept = from.recorded < ring_events ? from.recorded : ring_events;
    result.overwritten = from.recorded - kept;
    for (auto index = result.overwritten; index < from.recorded; ++index)
        result.events.push_back(from.events[index % ring_events]);
    return result;
}

} // namespace kvferry::trace
