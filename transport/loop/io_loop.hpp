// SPDX-License-Identifier: Apache-2.0
// A thread that runs its resident actors and polls for them.
//
// One cycle: run ready actors, poll until no poller has work or an actor has mail, go on polling
// for `spin`, arm the pollers, sleep on all descriptors. Actors, pollers and callbacks of one loop
// never run at the same time, so none of them needs a lock.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/loop_inbox.hpp"
#include "transport/loop/resident.hpp"
#include "transport/loop/unique_fd.hpp"

#include <caf/resumable.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace kvferry {

struct io_loop_options {
    /// Name of the thread; the kernel shows its first 15 characters.
    std::string name = "kvferry-io";
    /// Keep polling this long after the last thing that happened; 0 sleeps at once.
    std::chrono::microseconds spin{0};
};

/// Something that the loop polls for an actor, like a UCX worker. Called on the loop's thread only.
class loop_poller {
public:
    virtual ~loop_poller() = default;
    /// Does what can be done now; false: there was nothing to do.
    virtual bool progress() = 0;
    /// Readable when there may be work again; the same descriptor for the poller's whole life. -1:
    /// watches of its own wake the loop.
    virtual int event_fd() = 0;
    /// Called last before sleep. False: something has come up, call progress() again.
    virtual bool arm() = 0;
};

/// Ends its watch on destruction. Made and destroyed on the loop's thread, or after the loop's end.
class watch_handle {
public:
    watch_handle() = default;
    watch_handle(watch_handle&& other) noexcept;
    watch_handle& operator=(watch_handle&& other) noexcept;
    ~watch_handle() { reset(); }

    explicit operator bool() const noexcept { return loop_ != nullptr; }

    /// Ends the watch: no callback comes after this, not even one due in the same cycle.
    void reset() noexcept;

private:
    friend class io_loop;
    watch_handle(class io_loop* loop, std::uint64_t id) noexcept : loop_(loop), id_(id) {}

    class io_loop* loop_ = nullptr;
    std::uint64_t id_ = 0;
};

/// Counters since the loop's start.
struct io_loop_statistics {
    /// Callbacks, pollers and actors that threw.
    std::uint64_t failures = 0;
    std::uint64_t sleeps = 0;
    /// Times that another thread woke it.
    std::uint64_t wakes = 0;
    /// Processor time of its thread.
    std::chrono::nanoseconds cpu_time{0};
};

class io_loop final : public home_unit {
public:
    /// Called with the pending epoll events.
    using watch_callback = std::function<void(std::uint32_t epoll_events)>;

    /// Starts the thread. system_call_failed when the system refuses it; then nothing is left
    /// behind.
    static caf::expected<std::unique_ptr<io_loop>> make(caf::actor_system&, io_loop_options = {});

    io_loop(const io_loop&) = delete;
    io_loop& operator=(const io_loop&) = delete;
    /// Calls stop().
    ~io_loop() override;

    // -- from any thread -------------------------------------------------------------------

    /// Takes over one reference and resumes the job on the loop's thread.
    void exec_later(caf::resumable* job) override;
    std::shared_ptr<home_door> door() const override { return inbox_; }

    /// Runs `call` on the loop's thread, in order with everything else that the calling thread has
    /// handed over. An exception in it is caught, counted and logged. Calls after stop() are
    /// dropped.
    void post(std::function<void()> call);

    /// Whether the caller runs on the loop's thread.
    bool on_thread() const noexcept;

    io_loop_statistics statistics() const;

    /// Jobs and messages handed from one thread to another in this process: from other threads to a
    /// loop, and from a loop to CAF's scheduler.
    static std::uint64_t hops() noexcept;

    /// Runs what is ready, then ends and joins the thread. Call it when all actors of the loop have
    /// ended: later mail is dropped. Never call it from the loop's own thread.
    void stop();

    // -- on the loop's thread only: from handlers, callbacks and pollers ------------------------

    /// Runs it behind all that is ready, or ahead of what does not go first.
    void later(errand_ptr) override;

    /// Starts to poll a poller. system_call_failed when its descriptor cannot be watched.
    caf::error add(loop_poller&);

    /// Stops polling: the poller is never called again.
    void remove(loop_poller&) noexcept;

    /// Calls back while a descriptor is ready (level-triggered). An exception in the callback is
    /// caught, counted and logged; the watch goes on.
    caf::expected<watch_handle> watch(int fd, std::uint32_t epoll_events, watch_callback callback);

private:
    friend class watch_handle;

    struct polled {
        loop_poller* poller = nullptr;
        int fd = -1;
    };
    struct watched {
        int fd = -1;
        watch_callback callback;
    };

    io_loop(caf::actor_system&, io_loop_options);

    /// The execution unit of the loop's actors: what they send to actors elsewhere goes to CAF's
    /// scheduler. If they ran with the loop itself, every actor they send to would run on its
    /// thread.
    class scheduler_unit final : public caf::execution_unit {
    public:
        using caf::execution_unit::execution_unit;
        void exec_later(caf::resumable* job) override;
    };

    bool is_idle() const { return ready_.empty() && first_.empty(); }
    void run();
    void take_inbox();
    bool run_actors();
    std::size_t run_ready(std::size_t turns_max);
    void resume(caf::resumable*);
    void run_errand(errand_ptr);
    bool progress_pollers(bool& more);
    bool arm_pollers();
    bool may_sleep();
    void sleep_until_event();
    bool dispatch(int timeout_ms);
    void unwatch(std::uint64_t id) noexcept;
    caf::error observe(int fd, std::uint32_t epoll_events, std::uint64_t id);
    void check_thread(const char* what) const noexcept;
    template <class F>
    bool guarded(const char* what, F&& f) noexcept;

    const io_loop_options options_;
    std::shared_ptr<loop_inbox> inbox_;
    unique_fd epoll_fd_;

    // Read by other threads.
    std::atomic<std::uint64_t> failures_{0};
    std::atomic<std::uint64_t> sleeps_{0};

    // Only on the loop's thread.
    scheduler_unit elsewhere_;
    std::deque<loop_turn> ready_;
    /// Errands that go first.
    std::deque<loop_turn> first_;
    std::deque<loop_turn> taken_;
    std::vector<polled> pollers_;
    std::unordered_map<std::uint64_t, std::shared_ptr<watched>> watches_;
    std::uint64_t last_id_ = 0;

    std::thread thread_;
};

} // namespace kvferry
