// SPDX-License-Identifier: Apache-2.0
// The actor system that a runtime owns, together with the workers on it.
#include "actors/host/runtime.hpp"

#include "actors/host/configure.hpp"
#include "actors/host/host_actor.hpp"
#include "actors/host/process_life.hpp"
#include "messages/limits.hpp"
#include "messages/trace/log.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/loop/threads.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace kvferry {

namespace {

/// CAF waits for all actors. All of ours have ended by then, but for calls to a rank-info server
/// whose name is looked up.
constexpr std::chrono::seconds teardown_patience{5};

/// Threads that CAF makes with a system, beside its scheduler: of the clock, of the network and its
/// manager, of detached actors, of the one that prints. It hangs when it does not get one of them.
constexpr std::size_t threads_of_a_system = 5;
/// The same of descriptors, with some to spare.
constexpr std::size_t descriptors_of_a_system = 16;

} // namespace

/// The system is made when it is first needed: a static runtime may be older than CAF's own static
/// objects, which a system needs.
struct runtime::parts final : ends_with_process {
    struct prepared_config : caf::actor_system_config {
        prepared_config() { configure(*this); }
    };

    std::mutex mutex;
    bool ended = false;
    std::unique_ptr<prepared_config> config;
    std::unique_ptr<caf::actor_system> system;

    caf::expected<caf::actor_system*> made() {
        if (auto problem = process_life::check()) // the lock may be held for ever
            return problem;
        std::lock_guard lock{mutex};
        if (ended)
            return make_error(errc::stopped, "the process is ending");
        if (!system) {
            init_types();
            process_life::begin();
            config = std::make_unique<prepared_config>();
            if (auto problem = check_descriptors(descriptors_of_a_system))
                return add_context(problem, "an actor system");
            const auto scheduler = caf::get_or(content(*config), "caf.scheduler.max-threads",
                                               std::thread::hardware_concurrency());
            if (auto problem = check_threads("an actor system", threads_of_a_system + scheduler))
                return problem;
            system = std::make_unique<caf::actor_system>(*config);
            let_go_of_logger();
        }
        return system.get();
    }

    bool end_with_process() override {
        {
            std::lock_guard lock{mutex};
            ended = true;
        }
        return process_life::run_aside([this] { system.reset(); }, teardown_patience);
    }
};

runtime::runtime() {
    parts_ = {new parts, [](parts* last) {
                  if (process_life::forked())
                      return;         // the system's threads are not in this process
                  let_go_of_logger(); // the host may have made scoped actors on this thread
                  if (!process_life::run_aside([last] { delete last; }, teardown_patience))
                      logger().error("an actor system of kvferry has not ended within {} s: a "
                                     "thread of it does not return. It is left behind",
                                     teardown_patience.count());
              }};
    process_life::add(process_life::stage::system, parts_);
}

runtime::~runtime() = default;

caf::actor_system& runtime::system() {
    auto made = parts_->made();
    if (!made)
        throw std::runtime_error{describe(made.error())};
    return **made;
}

caf::expected<worker> runtime::start_worker(worker_options options) {
    auto system = parts_->made();
    if (!system)
        return std::move(system.error());
    return worker::start_on(parts_, **system, std::move(options));
}

} // namespace kvferry
