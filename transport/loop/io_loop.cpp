// SPDX-License-Identifier: Apache-2.0
// The cycle of an I/O loop, and how other threads reach it.
#include "transport/loop/io_loop.hpp"

#include "messages/trace/log.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <caf/actor_system.hpp>
#include <caf/ref_counted.hpp>
#include <caf/scheduler/abstract_coordinator.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <pthread.h>
#include <sys/epoll.h>
#include <system_error>

namespace kvferry {

namespace {

/// Messages that an actor handles before the next one gets its turn.
constexpr std::size_t messages_per_turn = 64;
/// Rounds of actors before pollers get their turn, and turns in all of them.
constexpr int actor_rounds_per_cycle = 32;
constexpr std::size_t turns_per_cycle = 2048;
/// Of what other threads have handed over, so much at a time joins what is ready: what follows from
/// it runs before more does, and finds the caches as they were left.
constexpr std::size_t taken_at_once = 32;
/// Cycles that leave out the pollers because actors have mail left.
constexpr int unpolled_cycles_max = 8;
/// Rounds of polling before actors get their turn again, even if pollers still have work; mail that
/// comes meanwhile ends them.
constexpr int poll_rounds_per_cycle = 16;
/// Busy cycles between two looks at the watched descriptors.
constexpr std::uint64_t cycles_per_look = 32;
/// Longest sleep: a wake-up that a poller fails to announce is late by at most this.
constexpr int sleep_ms_max = 1000;
constexpr std::uint64_t wake_id = 0;

/// A function that waits in a loop's inbox among the actors.
class posted_call final : public caf::resumable, public caf::ref_counted {
public:
    explicit posted_call(std::function<void()> call) : call_(std::move(call)) {}

    subtype_t subtype() const override { return function_object; }
    resume_result resume(caf::execution_unit*, size_t) override {
        auto call = std::move(call_);
        call();
        return done;
    }
    void intrusive_ptr_add_ref_impl() override { ref(); }
    void intrusive_ptr_release_impl() override { deref(); }

private:
    std::function<void()> call_;
};

} // namespace

// -- life of a loop -------------------------------------------------------------------------

caf::expected<std::unique_ptr<io_loop>> io_loop::make(caf::actor_system& system,
                                                      io_loop_options options) {
    std::unique_ptr<io_loop> loop{new io_loop(system, std::move(options))};
    auto inbox = loop_inbox::make();
    if (!inbox)
        return std::move(inbox.error());
    loop->inbox_ = std::move(*inbox);
    if (!made_to_fail("epoll_create1"))
        loop->epoll_fd_ = unique_fd{::epoll_create1(EPOLL_CLOEXEC)};
    if (!loop->epoll_fd_)
        return system_error(errc::system_call_failed, "epoll_create1",
                            "raise the limit of descriptors");
    if (auto error = loop->observe(loop->inbox_->wake_fd(), EPOLLIN | EPOLLET, wake_id))
        return error;
    try {
        if (made_to_fail("thread"))
            throw std::system_error{errno, std::generic_category()};
        loop->thread_ =
            system.launch_thread(loop->options_.name.c_str(), [self = loop.get()] { self->run(); });
    } catch (const std::system_error& error) {
        return system_error(errc::system_call_failed, "thread of loop " + loop->options_.name,
                            error.code().value(), more_threads);
    }
    return loop;
}

io_loop::io_loop(caf::actor_system& system, io_loop_options options)
    : home_unit(&system), options_(std::move(options)), elsewhere_(&system) {}

io_loop::~io_loop() {
    stop();
    if (inbox_)
        inbox_->close();
}

void io_loop::stop() {
    if (!thread_.joinable())
        return;
    if (on_thread()) {
        logger().critical("loop {}: stop() was called on the loop's own thread", options_.name);
        std::abort();
    }
    inbox_->stop();
    thread_.join();
}

bool io_loop::on_thread() const noexcept {
    return home_of_thread == this;
}

io_loop_statistics io_loop::statistics() const {
    io_loop_statistics result{failures_, sleeps_, inbox_->wakes(), {}};
    auto* self = const_cast<std::thread*>(&thread_);
    clockid_t clock_id{};
    timespec used{};
    if (self->joinable() && ::pthread_getcpuclockid(self->native_handle(), &clock_id) == 0
        && ::clock_gettime(clock_id, &used) == 0)
        result.cpu_time =
            std::chrono::seconds{used.tv_sec} + std::chrono::nanoseconds{used.tv_nsec};
    return result;
}

std::uint64_t io_loop::hops() noexcept {
    return thread_hops.load(std::memory_order_relaxed);
}

// -- inbox ----------------------------------------------------------------------------------

void io_loop::exec_later(caf::resumable* job) {
    if (on_thread()) {
        ready_.push_back({job, nullptr});
    } else if (!inbox_->hand_in({job, nullptr})) {
        logger().warn("loop {} has ended: mail for one of its actors is dropped", options_.name);
        caf::intrusive_ptr_release(job);
    }
}

void io_loop::later(errand_ptr what) {
    auto& queue = what->goes_first ? first_ : ready_;
    queue.push_back({nullptr, what.release()});
}

void io_loop::post(std::function<void()> call) {
    exec_later(new posted_call(std::move(call)));
}

/// What it leaves in taken_ is out of the inbox, but not ready yet.
void io_loop::take_inbox() {
    if (taken_.empty())
        inbox_->take(taken_);
    if (taken_.empty())
        return;
    const auto end =
        taken_.begin() + static_cast<std::ptrdiff_t>(std::min(taken_.size(), taken_at_once));
    ready_.insert(ready_.end(), taken_.begin(), end);
    taken_.erase(taken_.begin(), end);
}

/// True when the loop may go to sleep; from then on mail from another thread writes to the eventfd.
bool io_loop::may_sleep() {
    return taken_.empty() && is_idle() && inbox_->may_sleep();
}

// -- the cycle ------------------------------------------------------------------------------

void io_loop::run() {
    home_of_thread = this;
    std::uint64_t cycle = 0;
    int unpolled = 0;
    auto busy_at = std::chrono::steady_clock::now();
    for (;;) {
        bool busy = run_actors();
        bool more = false;
        // Pollers bring more mail, so they wait while actors have fallen behind. But never for
        // long: other processes wait for what pollers do.
        if (is_idle() || ++unpolled >= unpolled_cycles_max) {
            busy = progress_pollers(more) || busy;
            unpolled = 0;
        }
        if (++cycle % cycles_per_look == 0 && !watches_.empty() && dispatch(0))
            busy = more = true;
        if (busy && options_.spin.count() > 0)
            busy_at = std::chrono::steady_clock::now();
        if (more || !is_idle() || !taken_.empty())
            continue;
        if (options_.spin.count() == 0
            || std::chrono::steady_clock::now() - busy_at >= options_.spin) {
            if (may_sleep())
                sleep_until_event();
            if (inbox_->woken(taken_.empty() && is_idle()))
                break;
        } else { // spins, but lets other threads on this core run
            std::this_thread::yield();
        }
    }
    if (!pollers_.empty() || !watches_.empty())
        logger().error("loop {} ends with {} pollers and {} watches left: stop its actors first",
                       options_.name, pollers_.size(), watches_.size());
    home_of_thread = nullptr;
}

/// Runs several rounds, since a message often makes another actor ready: such a chain ends here
/// without a poll after each step.
bool io_loop::run_actors() {
    auto left = turns_per_cycle;
    for (int round = 0; round < actor_rounds_per_cycle && left > 0; ++round) {
        if (round == 0 || ready_.size() < taken_at_once)
            take_inbox();
        const auto ran = run_ready(left);
        if (ran == 0)
            break;
        left -= std::min(left, ran);
    }
    return left < turns_per_cycle;
}

/// Runs only what is ready at the start, and what goes first, so that everything else gets a turn.
std::size_t io_loop::run_ready(std::size_t turns_max) {
    std::size_t ran = 0;
    for (auto left = std::min(ready_.size(), turns_max); left > 0 || !first_.empty(); ++ran) {
        auto& from = first_.empty() ? ready_ : first_;
        left -= &from == &ready_ ? 1 : 0;
        const auto next = from.front();
        from.pop_front();
        next.job ? resume(next.job) : run_errand(errand_ptr{next.what});
    }
    return ran;
}

void io_loop::scheduler_unit::exec_later(caf::resumable* job) {
    thread_hops.fetch_add(1, std::memory_order_relaxed);
    system().scheduler().enqueue(job);
}

void io_loop::resume(caf::resumable* job) {
    auto result = caf::resumable::done;
    guarded("an actor", [&] {
        result = job->resume(&elsewhere_, messages_per_turn);
        return true;
    });
    if (result == caf::resumable::resume_later)
        ready_.push_back({job, nullptr});
    else // drop our reference; the next mail brings a new one
        caf::intrusive_ptr_release(job);
}

void io_loop::run_errand(errand_ptr what) {
    guarded("an actor", [&] {
        what->taker->take(*what, &elsewhere_);
        return true;
    });
}

/// True when there was something to do; `more`: there may be more. Whoever has got mail runs before
/// the next round: somebody waits for what it says, and less is written at a time otherwise.
bool io_loop::progress_pollers(bool& more) {
    bool any = false;
    int rounds = 0;
    do {
        more = false;
        // By index: progress may add and remove pollers.
        for (std::size_t index = 0; index < pollers_.size(); ++index)
            if (auto* poller = pollers_[index].poller)
                more = guarded("a poller", [poller] { return poller->progress(); }) || more;
        any = any || more;
    } while (more && is_idle() && !inbox_->has_mail() && ++rounds < poll_rounds_per_cycle);
    std::erase_if(pollers_, [](const polled& x) { return x.poller == nullptr; });
    return any;
}

bool io_loop::arm_pollers() {
    for (auto& x : pollers_)
        if (x.poller && !guarded("a poller", [&x] { return x.poller->arm(); }))
            return false;
    return true;
}

void io_loop::sleep_until_event() {
    if (!arm_pollers())
        return;
    sleeps_.fetch_add(1, std::memory_order_relaxed);
    dispatch(sleep_ms_max);
}

bool io_loop::dispatch(int timeout_ms) {
    std::array<epoll_event, 32> events;
    auto count =
        ::epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    bool any = false;
    for (int index = 0; index < count; ++index) {
        const auto id = events[index].data.u64;
        if (id == wake_id)
            continue; // every write is an event of its own: nobody reads it
        if (auto found = watches_.find(id); found != watches_.end()) {
            // Holds the watch: the callback may end it.
            auto watch = found->second;
            guarded("a watch", [&] {
                watch->callback(events[index].events);
                return true;
            });
            any = true;
        } // otherwise a poller, which makes progress in the next cycle, or a watch that has ended
    }
    return any;
}

template <class F>
bool io_loop::guarded(const char* what, F&& f) noexcept {
    try {
        return f();
    } catch (const std::exception& error) {
        failures_.fetch_add(1, std::memory_order_relaxed);
        logger().error("loop {}: {} threw: {}", options_.name, what, error.what());
    } catch (...) {
        failures_.fetch_add(1, std::memory_order_relaxed);
        logger().error("loop {}: {} threw an exception of unknown type", options_.name, what);
    }
    return false;
}

} // namespace kvferry
