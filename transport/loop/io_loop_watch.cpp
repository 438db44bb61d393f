// SPDX-License-Identifier: Apache-2.0
// Pollers and watched descriptors of an I/O loop: adding and removing them.
#include "messages/trace/log.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/loop/system_call.hpp"

#include <cstdlib>
#include <sys/epoll.h>
#include <utility>

namespace kvferry {

// -- watch_handle ---------------------------------------------------------------------------

watch_handle::watch_handle(watch_handle&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {}

watch_handle& watch_handle::operator=(watch_handle&& other) noexcept {
    if (this != &other) {
        reset();
        loop_ = std::exchange(other.loop_, nullptr);
        id_ = other.id_;
    }
    return *this;
}

void watch_handle::reset() noexcept {
    if (loop_)
        std::exchange(loop_, nullptr)->unwatch(id_);
}

// -- pollers and watches --------------------------------------------------------------------

void io_loop::check_thread(const char* what) const noexcept {
    if (on_thread())
        return;
    logger().critical("loop {}: {} was called from another thread", options_.name, what);
    std::abort();
}

caf::error io_loop::observe(int fd, std::uint32_t epoll_events, std::uint64_t id) {
    epoll_event event{};
    event.events = epoll_events;
    event.data.u64 = id;
    if (made_to_fail("epoll_ctl") || ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        return system_error(errc::system_call_failed, "epoll_ctl(add " + std::to_string(fd) + ")");
    return {};
}

caf::error io_loop::add(loop_poller& poller) {
    check_thread("add");
    auto fd = poller.event_fd();
    if (fd >= 0)
        if (auto error = observe(fd, EPOLLIN, ++last_id_))
            return error;
    pollers_.push_back({&poller, fd});
    return {};
}

void io_loop::remove(loop_poller& poller) noexcept {
    check_thread("remove");
    for (auto& x : pollers_) {
        if (x.poller == &poller) {
            if (x.fd >= 0)
                ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, x.fd, nullptr);
            x.poller = nullptr; // the list may be in use: the next round erases the entry
        }
    }
}

caf::expected<watch_handle> io_loop::watch(int fd, std::uint32_t epoll_events,
                                           watch_callback callback) {
    check_thread("watch");
    auto id = ++last_id_;
    if (auto error = observe(fd, epoll_events, id))
        return error;
    watches_.emplace(id, std::make_shared<watched>(watched{fd, std::move(callback)}));
    return watch_handle{this, id};
}

void io_loop::unwatch(std::uint64_t id) noexcept {
    if (thread_.joinable())
        check_thread("the end of a watch");
    if (auto found = watches_.find(id); found != watches_.end()) {
        ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, found->second->fd, nullptr);
        watches_.erase(found);
    }
}

} // namespace kvferry
