// SPDX-License-Identifier: Apache-2.0
// Threads that make the long reads and writes of a wire, so that the bytes of several sockets move
// at the same time. Everything else stays on the loop's thread.
//
// A call is handed over, made once, and given back: until then its stream and its memory are the
// mover's. No call blocks, and each has a bound of bytes, so all of them come back soon whatever
// the peers do. Small parts go through the buffer of the thread that makes it (small_parts.hpp).
#pragma once

#include "transport/tcp/byte_stream.hpp"
#include "transport/tcp/socket_poll.hpp"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace kvferry {

/// Used on the loop's thread.
class tcp_movers final : private socket_poll::watcher {
public:
    class owner {
    public:
        /// The call has been made; with stop() it may not have been, and then moved nothing.
        virtual void handed_back(bytes_moved) = 0;

    protected:
        ~owner() = default;
    };
    struct call {
        owner* whose = nullptr;
        byte_stream* stream = nullptr;
        std::span<const iovec> parts = {};
        bool writes = false;
    };

    /// The poll outlives it.
    tcp_movers(socket_poll& poll, std::size_t threads) : poll_(poll), threads_max_(threads) {}
    tcp_movers(const tcp_movers&) = delete;
    ~tcp_movers() { stop(); }

    /// Whether another call would be made soon.
    bool has_room() const { return out_ < calls_per_thread * threads_.size(); }
    /// Some are not given back.
    bool is_busy() const { return out_ > 0; }
    /// There is somebody whose calls may be long: makes the threads, once.
    void prepare();
    /// While it has room.
    void hand_over(call);
    /// Gives back what has been made, from within; true when there was something.
    bool give_back();
    /// Called before the loop sleeps. False: something is to be given back.
    bool may_sleep();
    /// Returns when the threads have ended. All that is still out can be given back then.
    void stop() noexcept;

private:
    /// One under way, and one that waits while the loop does other things.
    static constexpr std::size_t calls_per_thread = 2;

    struct made {
        owner* whose = nullptr;
        bytes_moved moved;
    };

    void ready(std::uint32_t) override {} // the loop is awake, and gives back
    void start();
    void run();
    static bytes_moved make(const call&) noexcept;

    socket_poll& poll_;
    std::size_t threads_max_;
    bool prepared_ = false;
    /// Calls that are not given back.
    std::size_t out_ = 0;
    unique_fd wake_fd_;
    socket_poll::registration registration_;
    std::vector<std::thread> threads_;
    std::vector<made> giving_;

    std::atomic<bool> has_made_ = false;
    std::mutex mutex_;
    std::condition_variable more_;
    std::deque<call> waiting_;
    std::vector<made> made_;
    bool asleep_ = false;
    bool stopping_ = false;
};

} // namespace kvferry
