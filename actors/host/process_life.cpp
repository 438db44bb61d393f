// SPDX-License-Identifier: Apache-2.0
// The registry behind it, and the handlers of fork and exit.
#include "actors/host/process_life.hpp"

#include "messages/errors.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/log_queue.hpp"

#include <caf/detail/meta_object.hpp>
#include <caf/intrusive_ptr.hpp>
#include <caf/ref_counted.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

/// exit() waits this long for work aside, such as a callback of the host that does not return.
constexpr std::chrono::seconds patience_at_exit{2};
/// Handlers of exit(); each does the work that those before it have left.
constexpr int handlers_max = 8;

struct registry {
    std::mutex mutex;
    std::condition_variable changed;
    int handlers = 0;
    std::array<std::vector<std::weak_ptr<ends_with_process>>, 2> living;
    std::vector<std::shared_ptr<void>> kept;
    int aside = 0;
    /// CAF deletes its table of types with the last of these.
    caf::detail::global_meta_objects_guard_type types;
};

/// Never destroyed: threads that outlive main() use it.
registry& all() {
    static auto& result = *new registry;
    return result;
}

constinit std::atomic<bool> child{false};

std::vector<std::shared_ptr<ends_with_process>> living(process_life::stage which) {
    std::vector<std::shared_ptr<ends_with_process>> result;
    std::lock_guard lock{all().mutex};
    for (const auto& each : all().living[static_cast<std::size_t>(which)])
        if (auto alive = each.lock())
            result.push_back(std::move(alive));
    return result;
}

/// Ends all of a stage at the same time. False: something runs on.
bool end_all(process_life::stage which) {
    std::atomic<bool> ended{true};
    std::vector<std::thread> threads;
    for (auto& each : living(which)) {
        auto end = [&ended, each = std::move(each)]() mutable {
            if (!each->end_with_process())
                ended = false;
            each.reset(); // its destructor is not for the thread that exits either
        };
        try {
            threads.emplace_back(std::move(end));
        } catch (const std::system_error&) {
            ended = false;
        }
    }
    for (auto& thread : threads)
        thread.join();
    return ended;
}

bool something_is_kept() {
    std::lock_guard lock{all().mutex};
    return !all().kept.empty();
}

void at_exit(int status, void*) {
    if (process_life::forked())
        return; // its parent has the threads
    bool quiet = end_all(process_life::stage::rank) && !something_is_kept();
    quiet = quiet && end_all(process_life::stage::system);
    if (quiet) {
        std::unique_lock lock{all().mutex};
        quiet = all().changed.wait_for(lock, patience_at_exit, [] { return all().aside == 0; });
    }
    logger().flush();
    if (quiet && log_is_written())
        return;
    std::fflush(stdout); // not all: a full pipe behind stderr would hold this thread
    ::_exit(status);
}

void in_child() {
    child = true;
}

} // namespace

void process_life::begin() {
    std::lock_guard lock{all().mutex};
    if (!all().types) // null while CAF's own static objects have not been made
        all().types = caf::detail::global_meta_objects_guard();
    if (all().handlers == 0)
        ::pthread_atfork(nullptr, nullptr, in_child);
    // What begins before main() may be older than objects that it needs, which are then destroyed
    // before its handler runs: a later call registers a later handler, which runs earlier.
    if (all().handlers < handlers_max) {
        ++all().handlers;
        ::on_exit(at_exit, nullptr);
    }
}

bool process_life::forked() noexcept {
    return child;
}

caf::error process_life::check() {
    if (!forked())
        return {};
    return make_error(errc::unsupported,
                      "forked after kvferry started; start it in the child, or spawn");
}

void process_life::add(stage which, const std::shared_ptr<ends_with_process>& added) {
    if (forked())
        return; // nothing begins here, and the lock may be held for ever
    std::lock_guard lock{all().mutex};
    auto& list = all().living[static_cast<std::size_t>(which)];
    std::erase_if(list, [](const auto& each) { return each.expired(); });
    list.push_back(added);
}

void process_life::keep(std::shared_ptr<void> what) {
    std::lock_guard lock{all().mutex};
    all().kept.push_back(std::move(what));
}

bool process_life::run_aside(std::function<void()> what, std::chrono::milliseconds patience) {
    struct job {
        std::function<void()> what;
        bool ended = false; // guarded by the registry's mutex
    };
    auto its = std::make_shared<job>();
    its->what = std::move(what);
    {
        std::lock_guard lock{all().mutex};
        ++all().aside;
    }
    const auto run = [its] {
        its->what();
        its->what = nullptr; // what it holds ends here, too
        std::lock_guard lock{all().mutex};
        --all().aside;
        its->ended = true;
        all().changed.notify_all();
    };
    std::thread thread;
    try {
        thread = std::thread{run};
    } catch (const std::system_error&) { // no more threads: better here than not at all
        run();
        return true;
    }
    std::unique_lock lock{all().mutex};
    const bool ended = all().changed.wait_for(lock, patience, [&its] { return its->ended; });
    lock.unlock();
    ended ? thread.join() : thread.detach();
    return ended;
}

} // namespace kvferry
