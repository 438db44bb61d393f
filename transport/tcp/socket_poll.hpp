// SPDX-License-Identifier: Apache-2.0
// Whom of many sockets to call next: an epoll of the wire's own, so that a fabric's loop polls one
// thing, and what waits to be written is written once a cycle, together.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace kvferry {

class socket_poll {
public:
    class watcher {
    public:
        /// With epoll's events, or none when it asked to be called soon. May end any registration.
        virtual void ready(std::uint32_t events) = 0;

    protected:
        ~watcher() = default;
    };

    /// One watched descriptor; ends with the object. The poll outlives it.
    class registration {
    public:
        registration() = default;
        registration(registration&& other) noexcept { *this = std::move(other); }
        registration& operator=(registration&& other) noexcept;
        ~registration() { reset(); }

        void reset() noexcept;
        /// The events to call for, besides those that epoll always reports.
        void want(std::uint32_t events);
        /// Calls in the next round in any case.
        void soon();

    private:
        friend class socket_poll;
        socket_poll* poll_ = nullptr;
        std::uint64_t number_ = 0;
        int fd_ = -1;
        std::uint32_t events_ = 0;
    };

    /// system_call_failed when the system refuses it.
    static caf::expected<std::unique_ptr<socket_poll>> make();

    int fd() const { return epoll_.get(); }
    /// Level-triggered. system_call_failed: the descriptor cannot be watched.
    caf::expected<registration> watch(int fd, std::uint32_t events, watcher&);

    /// Somebody has asked to be called soon.
    bool has_work() const { return !soon_.empty(); }
    /// Calls everyone who is to be called; false: there was nobody.
    bool dispatch();

private:
    explicit socket_poll(unique_fd epoll) : epoll_(std::move(epoll)) {}

    struct watched {
        watcher* who = nullptr;
        bool soon = false;
    };
    unique_fd epoll_;
    std::map<std::uint64_t, watched> watched_;
    std::vector<std::uint64_t> soon_;
    std::uint64_t last_ = 0;
};

} // namespace kvferry
