// SPDX-License-Identifier: Apache-2.0
// Whom of many sockets to call next: an epoll of the wire's own, so that a fabric's loop polls one
// thing, and what waits to be written is written once a cycle, together.
//
// Sockets that carry bulk take turns by class, peer and bytes (fair_turns); the others are called
// whenever they have something, also between two turns. A dispatch ends after some bulk, so that
// the rank's actors run in between.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/priority.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/turns/fair_turns.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
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
        /// Bytes that it has moved in this turn.
        void moved(std::uint64_t bytes);
        /// The same between its turns: its next one is charged for them.
        void moved_apart(std::uint64_t bytes);
        /// In its turn: other bulk is in line.
        bool others_wait() const;

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
    /// Level-triggered. `bulk`: it takes turns, as one of these. system_call_failed: the descriptor
    /// cannot be watched.
    caf::expected<registration> watch(int fd, std::uint32_t events, watcher&,
                                      std::optional<flow> bulk = {});

    /// Descriptors.
    std::size_t watches() const { return watched_.size(); }
    /// Somebody has asked to be called soon, or waits for its turn.
    bool has_work() const { return !soon_.empty() || !turns_.empty(); }
    /// Calls those that are to be called, bulk up to a bound; false: there was nobody. The system
    /// is not asked who is ready in each dispatch, but in every second one at least, and in one for
    /// which nobody asked after a sleep: whoever is ready wakes its loop.
    bool dispatch(bool has_slept = false);
    /// The last dispatch has left nothing: what comes makes fd() readable.
    bool is_quiet() const { return quiet_; }

private:
    explicit socket_poll(unique_fd epoll) : epoll_(std::move(epoll)) {}

    struct watched {
        watcher* who = nullptr;
        bool soon = false;
        std::optional<flow> bulk = {};
        /// Told when its turn comes.
        std::uint32_t events = 0;
        std::uint64_t moved = 0;
        std::uint64_t moved_apart = 0;
    };
    void call(std::uint64_t number, std::uint32_t events);
    bool see(std::uint64_t number, std::uint32_t events);
    bool call_soon();
    bool look();
    /// The bytes of that turn.
    std::uint64_t serve_turn();

    unique_fd epoll_;
    std::map<std::uint64_t, watched> watched_;
    std::vector<std::uint64_t> soon_;
    /// Bulk that has something to do, by number.
    fair_turns turns_;
    std::uint64_t last_ = 0;
    bool quiet_ = false;
    /// The last dispatch did not ask the system.
    bool unlooked_ = false;
};

} // namespace kvferry
