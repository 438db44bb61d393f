// SPDX-License-Identifier: Apache-2.0
// What an idle loop costs: processor time of its thread between two ticks of a timer that the loop
// itself watches.
#pragma once

#include "transport/loop/io_loop.hpp"

#include <chrono>
#include <future>
#include <memory>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <vector>

namespace kvferry::testing {

struct idle_cost {
    std::chrono::nanoseconds wall{0};
    std::chrono::nanoseconds processor{0};

    bool below_one_percent() const { return wall.count() > 0 && processor * 100 < wall; }
};

/// Only the loop's own pollers may run meanwhile. Takes about 0.4 s.
inline idle_cost measure_idle_cost(io_loop& loop) {
    struct ticks {
        unique_fd timer{::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)};
        std::vector<idle_cost> seen;
        std::promise<void> both;
        watch_handle watch;
    };
    auto shared = std::make_shared<ticks>();
    auto both = shared->both.get_future();
    const itimerspec twice{{0, 400'000'000}, {0, 1'000'000}};
    ::timerfd_settime(shared->timer.get(), 0, &twice, nullptr);
    loop.post([&loop, shared] {
        auto watch = loop.watch(shared->timer.get(), EPOLLIN, [&loop, shared](std::uint32_t) {
            std::uint64_t expirations = 0;
            if (::read(shared->timer.get(), &expirations, sizeof expirations) < 0)
                return;
            shared->seen.push_back(
                {std::chrono::steady_clock::now().time_since_epoch(), loop.statistics().cpu_time});
            if (shared->seen.size() == 2) {
                shared->watch.reset();
                shared->both.set_value();
            }
        });
        if (watch)
            shared->watch = std::move(*watch);
    });
    if (both.wait_for(std::chrono::seconds{20}) != std::future_status::ready)
        return {};
    return {shared->seen[1].wall - shared->seen[0].wall,
            shared->seen[1].processor - shared->seen[0].processor};
}

} // namespace kvferry::testing
