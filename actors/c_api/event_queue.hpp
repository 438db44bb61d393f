// SPDX-License-Identifier: Apache-2.0
// What one worker has to tell its host. Bounded without loss: whoever will tell something holds a
// place for it from the start.
#pragma once

#include "actors/c_api/kvferry.h"
#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

namespace kvferry::c_api {

/// Set: the host has freed the session, and events about it are dropped.
using dropped_flag = std::shared_ptr<const std::atomic<bool>>;

/// Told over and over, of which only the newest counts: it waits in the queue once, and keeps its
/// place until its end. Its members are the queue's.
struct repeated_event {
    kvf_event newest{};
    bool waits = false;
    bool over = false;
};

/// Thread-safe.
class event_queue {
public:
    static caf::expected<std::shared_ptr<event_queue>> make(std::size_t places_max);

    event_queue(std::size_t places_max, unique_fd readable);

    /// Takes places for events that may come. False: there are not so many left.
    bool hold(std::size_t places);
    void let_go(std::size_t places);
    std::size_t places_max() const { return places_max_; }

    /// Uses up one place that is held, until the event is taken.
    void push(const kvf_event&, dropped_flag);
    /// The same for an event that keeps its place.
    void push(const std::shared_ptr<repeated_event>&, const kvf_event&, dropped_flag);
    /// Nothing of it comes any more: its place is free when the newest is taken.
    void end(repeated_event&);

    /// Fills `events`, `stride` bytes apart and long.
    std::size_t take(kvf_event* events, std::uint32_t stride, std::size_t max);

    std::size_t waiting() const;

    /// Readable while events wait, whoever reads it.
    int fd() const;

    /// True: an event waits. False: none came in this time (none: for ever). `gone` when closed.
    caf::expected<bool> wait(std::optional<std::chrono::milliseconds> patience);

    /// Nobody takes events any more.
    void close();

private:
    struct entry {
        kvf_event event;
        dropped_flag dropped;
        std::shared_ptr<repeated_event> repeated = {};

        bool gives_its_place_back() const { return !repeated || repeated->over; }
    };

    void add(entry);

    void show();

    const std::size_t places_max_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t places_ = 0;
    std::deque<entry> events_;
    unique_fd readable_;
    bool shown_ = false;
    bool closed_ = false;
};

} // namespace kvferry::c_api
