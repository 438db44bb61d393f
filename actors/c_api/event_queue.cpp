// SPDX-License-Identifier: Apache-2.0
// The queue and its descriptor, which always agree.
#include "actors/c_api/event_queue.hpp"

#include "actors/c_api/sized.hpp"
#include "transport/loop/system_call.hpp"

#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace kvferry::c_api {

caf::expected<std::shared_ptr<event_queue>> event_queue::make(std::size_t places_max) {
    unique_fd readable{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!readable)
        return system_error(errc::system_call_failed, "eventfd");
    return std::make_shared<event_queue>(places_max, std::move(readable));
}

event_queue::event_queue(std::size_t places_max, unique_fd readable)
    : places_max_(places_max), readable_(std::move(readable)) {}

bool event_queue::hold(std::size_t places) {
    std::lock_guard lock{mutex_};
    if (places > places_max_ - places_)
        return false;
    places_ += places;
    return true;
}

void event_queue::let_go(std::size_t places) {
    std::lock_guard lock{mutex_};
    places_ -= places;
}

void event_queue::push(const kvf_event& event, dropped_flag dropped) {
    std::lock_guard lock{mutex_};
    if (closed_ || *dropped) {
        --places_;
        return;
    }
    add({event, std::move(dropped)});
}

void event_queue::push(const std::shared_ptr<repeated_event>& what, const kvf_event& event,
                       dropped_flag dropped) {
    std::lock_guard lock{mutex_};
    if (closed_ || *dropped || what->over)
        return;
    what->newest = event;
    if (!std::exchange(what->waits, true))
        add({{}, std::move(dropped), what});
}

void event_queue::end(repeated_event& what) {
    std::lock_guard lock{mutex_};
    if (std::exchange(what.over, true))
        return;
    if (!what.waits)
        --places_;
}

void event_queue::add(entry fresh) {
    events_.push_back(std::move(fresh));
    if (!shown_)
        show();
    changed_.notify_all();
}

std::size_t event_queue::take(kvf_event* events, std::uint32_t stride, std::size_t max) {
    std::size_t taken = 0;
    std::lock_guard lock{mutex_};
    while (!events_.empty() && taken < max) {
        const auto& next = events_.front();
        if (!*next.dropped) {
            auto* to = reinterpret_cast<char*>(events) + taken++ * stride;
            write(reinterpret_cast<kvf_event*>(to), stride,
                  next.repeated ? next.repeated->newest : next.event);
        }
        if (next.repeated)
            next.repeated->waits = false;
        places_ -= next.gives_its_place_back();
        events_.pop_front();
    }
    if (!events_.empty())
        show(); // also when the host has read the descriptor in the meantime
    else if (std::exchange(shown_, false)) {
        std::uint64_t count = 0;
        [[maybe_unused]] const auto read = ::read(readable_.get(), &count, sizeof count);
    }
    return taken;
}

void event_queue::show() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(readable_.get(), &one, sizeof one);
    shown_ = true;
}

std::size_t event_queue::waiting() const {
    std::lock_guard lock{mutex_};
    return events_.size();
}

int event_queue::fd() const {
    std::lock_guard lock{mutex_};
    return readable_.get();
}

caf::expected<bool> event_queue::wait(std::optional<std::chrono::milliseconds> patience) {
    std::unique_lock lock{mutex_};
    const auto over = [this] { return closed_ || !events_.empty(); };
    if (!patience)
        changed_.wait(lock, over);
    else
        changed_.wait_for(lock, *patience, over);
    if (closed_)
        return make_error(errc::gone, "this worker was freed");
    return !events_.empty();
}

void event_queue::close() {
    std::lock_guard lock{mutex_};
    closed_ = true;
    for (const auto& each : events_) {
        places_ -= each.gives_its_place_back();
        if (each.repeated)
            each.repeated->waits = false;
    }
    events_.clear();
    readable_.reset();
    changed_.notify_all();
}

} // namespace kvferry::c_api
