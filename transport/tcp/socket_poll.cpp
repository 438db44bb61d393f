// SPDX-License-Identifier: Apache-2.0
// Watchers are found by number, so that one that has ended meanwhile is not called.
#include "transport/tcp/socket_poll.hpp"

#include "transport/loop/system_call.hpp"

#include <array>
#include <sys/epoll.h>
#include <utility>

namespace kvferry {

socket_poll::registration& socket_poll::registration::operator=(registration&& other) noexcept {
    if (this != &other) {
        reset();
        poll_ = std::exchange(other.poll_, nullptr);
        number_ = other.number_;
        fd_ = other.fd_;
        events_ = other.events_;
    }
    return *this;
}

void socket_poll::registration::reset() noexcept {
    if (auto* poll = std::exchange(poll_, nullptr)) {
        ::epoll_ctl(poll->epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
        poll->watched_.erase(number_);
    }
}

void socket_poll::registration::want(std::uint32_t events) {
    if (!poll_ || events == events_)
        return;
    epoll_event change{};
    change.events = events_ = events;
    change.data.u64 = number_;
    ::epoll_ctl(poll_->epoll_.get(), EPOLL_CTL_MOD, fd_, &change);
}

void socket_poll::registration::soon() {
    if (poll_ && !std::exchange(poll_->watched_.at(number_).soon, true))
        poll_->soon_.push_back(number_);
}

caf::expected<std::unique_ptr<socket_poll>> socket_poll::make() {
    unique_fd epoll;
    if (!made_to_fail("epoll_create1"))
        epoll = unique_fd{::epoll_create1(EPOLL_CLOEXEC)};
    if (!epoll)
        return system_error(errc::system_call_failed, "epoll_create1");
    return std::unique_ptr<socket_poll>{new socket_poll(std::move(epoll))};
}

caf::expected<socket_poll::registration> socket_poll::watch(int fd, std::uint32_t events,
                                                            watcher& who) {
    epoll_event added{};
    added.events = events;
    added.data.u64 = ++last_;
    if (made_to_fail("epoll_ctl") || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &added) != 0)
        return system_error(errc::system_call_failed, "epoll_ctl");
    watched_.emplace(last_, watched{&who});
    registration result;
    result.poll_ = this;
    result.number_ = last_;
    result.fd_ = fd;
    result.events_ = events;
    return result;
}

bool socket_poll::dispatch() {
    bool any = false;
    const auto call = [&](std::uint64_t number, std::uint32_t events) {
        auto found = watched_.find(number);
        if (found == watched_.end())
            return;
        found->second.soon = false;
        any = true;
        found->second.who->ready(events);
    };
    for (auto number : std::exchange(soon_, {}))
        call(number, 0);
    std::array<epoll_event, 64> ready;
    const auto count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
    for (int index = 0; index < count; ++index)
        call(ready[index].data.u64, ready[index].events);
    return any;
}

} // namespace kvferry
