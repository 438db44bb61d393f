// SPDX-License-Identifier: Apache-2.0
// Watchers are found by number, so that one that has ended meanwhile is not called.
#include "transport/tcp/socket_poll.hpp"

#include "transport/loop/system_call.hpp"

#include <array>
#include <sys/epoll.h>
#include <utility>

namespace kvferry {

namespace {

/// Bulk that one dispatch moves.
constexpr std::uint64_t dispatch_bytes_max = std::uint64_t{256} << 10;
/// What a turn counts besides its bytes, so that empty ones end a dispatch, too.
constexpr std::uint64_t turn_costs_bytes = 8192;

} // namespace

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
        poll->turns_.remove(number_);
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
    if (!poll_)
        return;
    auto& x = poll_->watched_.at(number_);
    if (!std::exchange(x.soon, true))
        poll_->soon_.push_back(number_);
}

void socket_poll::registration::moved(std::uint64_t bytes) {
    if (poll_)
        poll_->watched_.at(number_).moved += bytes;
}

void socket_poll::registration::moved_apart(std::uint64_t bytes) {
    if (poll_)
        poll_->watched_.at(number_).moved_apart += bytes;
}

bool socket_poll::registration::others_wait() const {
    return poll_ && poll_->turns_.size() > 1;
}

caf::expected<std::unique_ptr<socket_poll>> socket_poll::make() {
    unique_fd epoll;
    if (!made_to_fail("epoll_create1"))
        epoll = unique_fd{::epoll_create1(EPOLL_CLOEXEC)};
    if (!epoll)
        return system_error(errc::system_call_failed, "epoll_create1");
    return std::unique_ptr<socket_poll>{new socket_poll(std::move(epoll))};
}

caf::expected<socket_poll::registration>
socket_poll::watch(int fd, std::uint32_t events, watcher& who, std::optional<flow> bulk) {
    epoll_event added{};
    added.events = events;
    added.data.u64 = ++last_;
    if (made_to_fail("epoll_ctl") || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &added) != 0)
        return system_error(errc::system_call_failed, "epoll_ctl");
    watched_.emplace(last_, watched{.who = &who, .bulk = bulk});
    registration result;
    result.poll_ = this;
    result.number_ = last_;
    result.fd_ = fd;
    result.events_ = events;
    return result;
}

void socket_poll::call(std::uint64_t number, std::uint32_t events) {
    if (auto found = watched_.find(number); found != watched_.end()) {
        found->second.soon = false;
        found->second.who->ready(events);
    }
}

/// Bulk that has something to do gets in line.
bool socket_poll::see(std::uint64_t number, std::uint32_t events) {
    const auto found = watched_.find(number);
    if (found == watched_.end())
        return false;
    if (found->second.bulk) {
        found->second.events |= events;
        turns_.add(number, *found->second.bulk);
    } else {
        call(number, events);
    }
    return true;
}

bool socket_poll::call_soon() {
    bool any = false;
    for (auto number : std::exchange(soon_, {}))
        any = see(number, 0) || any;
    return any;
}

bool socket_poll::look() {
    std::array<epoll_event, 64> ready;
    const auto count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
    bool any = false;
    for (int index = 0; index < count; ++index)
        any = see(ready[index].data.u64, ready[index].events) || any;
    quiet_ = quiet_ && count < static_cast<int>(ready.size());
    return any;
}

/// Whoever has more to do says so, or is named by the system again.
std::uint64_t socket_poll::serve_turn() {
    const auto number = *turns_.front();
    auto& x = watched_.at(number);
    x.moved = 0;
    if (x.events & EPOLLIN) // more comes behind it, most likely
        quiet_ = false;
    call(number, std::exchange(x.events, 0));
    const auto still = watched_.find(number);
    if (still == watched_.end())
        return 0;
    const auto bytes = still->second.moved;
    turns_.charge(number, bytes + std::exchange(still->second.moved_apart, 0));
    turns_.rest(number);
    return bytes;
}

bool socket_poll::dispatch(bool has_slept) {
    const auto was_quiet = std::exchange(quiet_, true);
    bool any = call_soon();
    // Who has just written has no answer yet.
    unlooked_ = !unlooked_ && (any || (was_quiet && !has_slept));
    if (!unlooked_)
        any = look() || any;
    for (std::uint64_t bytes = 0; !turns_.empty() && bytes < dispatch_bytes_max;) {
        bytes += serve_turn() + turn_costs_bytes;
        any = true;
        if (has_work()) { // else the next dispatch looks
            call_soon();
            look();
        }
    }
    quiet_ = quiet_ && !has_work();
    return any;
}

} // namespace kvferry
