// SPDX-License-Identifier: Apache-2.0
// A queue and its thread, which has the queue in common with the runner and nothing else.
#include "actors/host/callback_runner.hpp"

#include "actors/host/process_life.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <pthread.h>
#include <thread>
#include <utility>

namespace kvferry {

namespace {

constexpr const char* actor_name = "callback_runner";
/// Traces tell runners apart by these; actors of CAF count from 1.
constinit std::atomic<std::uint32_t> last_id{0x80000000};
constinit thread_local bool runs_callbacks = false;

} // namespace

struct callback_runner::queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::unique_ptr<run_callback>> waiting;
    /// The thread exists; it may be about to end only when nothing waits.
    bool served = false;
    bool running = false;
    bool closed = false;
    std::shared_ptr<void> keeps;
    rank_counters_ptr counters;
    std::uint32_t id = ++last_id;

    /// An event at this runner. The message's address identifies it until it has been run.
    void record(const run_callback& message, trace::instant what) const {
        auto x = detail::about(message);
        x.actor = actor_name;
        x.actor_id = id;
        x.key = reinterpret_cast<std::uintptr_t>(&message);
        x.what = what;
        x.ticks = trace::now();
        trace::record(x);
    }

    void call(const run_callback& message) const {
        record(message, trace::instant::dequeued);
        try {
            message.callback();
        } catch (const std::exception& thrown) {
            report(message, thrown.what());
        } catch (...) {
            report(message, "an exception of unknown type");
        }
        record(message, trace::instant::done);
    }

    static void report(const run_callback& message, const char* what) {
        count_handler_failure();
        logger().error("host callback of rid {} threw: {}", message.request.value, what);
    }

    void serve() {
        runs_callbacks = true;
        const counting_for rank{counters};
        std::unique_lock lock{mutex};
        for (;;) {
            changed.wait(lock, [this] { return closed || !waiting.empty(); });
            if (waiting.empty()) {
                if (!keeps)
                    break;
                auto last = std::move(keeps);
                lock.unlock();
                last.reset();
                lock.lock();
                continue;
            }
            auto next = std::move(waiting.front());
            waiting.pop_front();
            running = true;
            lock.unlock();
            call(*next);
            next.reset(); // what it holds may be the host's
            lock.lock();
            running = false;
            changed.notify_all();
        }
        served = false;
        changed.notify_all();
    }
};

namespace {

template <class Queue>
void start_thread(const std::shared_ptr<Queue>& serves) {
    if (made_to_fail("thread"))
        throw std::system_error{errno, std::generic_category()};
    std::thread thread{[serves] { serves->serve(); }};
    ::pthread_setname_np(thread.native_handle(), "kvferry-host");
    thread.detach(); // a callback may hold it for ever
}

} // namespace

caf::expected<std::shared_ptr<callback_runner>> callback_runner::make(std::shared_ptr<void> keeps,
                                                                      rank_counters_ptr counters) {
    auto made = std::make_shared<queue>();
    made->counters = std::move(counters);
    made->keeps = std::move(keeps);
    made->served = true;
    try {
        start_thread(made);
    } catch (const std::system_error& error) {
        return system_error(errc::system_call_failed, "thread of host callbacks",
                            error.code().value(), more_threads);
    }
    return std::shared_ptr<callback_runner>{new callback_runner{std::move(made)}};
}

std::shared_ptr<callback_runner> callback_runner::make_closed() {
    auto made = std::make_shared<queue>();
    made->closed = true;
    return std::shared_ptr<callback_runner>{new callback_runner{std::move(made)}};
}

callback_runner::callback_runner(std::shared_ptr<queue> shared) : queue_(std::move(shared)) {}

callback_runner::~callback_runner() {
    close();
}

void callback_runner::run(run_callback message) {
    auto next = std::make_unique<run_callback>(std::move(message));
    auto sent = detail::about(*next);
    if (const auto* self = trace::running_actor) {
        sent.actor = self->name();
        sent.actor_id = static_cast<std::uint32_t>(self->id());
    } else {
        sent.actor = "host";
    }
    sent.key = reinterpret_cast<std::uintptr_t>(next.get());
    sent.peer_id = queue_->id;
    sent.what = trace::instant::sent;
    sent.ticks = trace::now();
    trace::record(sent);
    std::lock_guard lock{queue_->mutex};
    queue_->waiting.push_back(std::move(next));
    if (!std::exchange(queue_->served, true)) {
        try {
            start_thread(queue_);
        } catch (const std::system_error& error) {
            queue_->served = false;
            logger().error("host callback of rid {} waits for a thread: {}", sent.rid,
                           error.what());
        }
    }
    queue_->changed.notify_all();
}

std::size_t callback_runner::waiting() const {
    std::lock_guard lock{queue_->mutex};
    return queue_->waiting.size() + (queue_->running ? 1 : 0);
}

void callback_runner::close() {
    if (process_life::forked())
        return; // the lock may be held for ever
    std::lock_guard lock{queue_->mutex};
    queue_->closed = true;
    queue_->changed.notify_all();
}

bool callback_runner::idle_within(std::chrono::milliseconds patience) const {
    std::unique_lock lock{queue_->mutex};
    return queue_->changed.wait_for(lock, patience, [this] {
        return queue_->waiting.empty() && !queue_->running && (!queue_->closed || !queue_->served);
    });
}

bool callback_runner::on_thread() noexcept {
    return runs_callbacks;
}

} // namespace kvferry
