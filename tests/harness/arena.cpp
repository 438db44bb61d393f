// SPDX-License-Identifier: Apache-2.0
// A CAF system on its test scheduler, for one thread.
#include "tests/harness/arena.hpp"

#include "messages/init_types.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/links.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/local/worker.hpp"
#include "messages/trace/log.hpp"
#include "messages/type_ids.hpp"
#include "messages/wire/protocol.hpp"
#include "tests/harness/simulation.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <spdlog/spdlog.h>

namespace kvferry::harness {

namespace {

/// Before the first actor system of the process.
void set_up_once() {
    static const bool done = [] {
        init_message_types();
        return true;
    }();
    (void)done;
}

struct test_config : caf::actor_system_config {
    test_config() { set("caf.scheduler.policy", "testing"); }
};

} // namespace

struct arena::parts {
    test_config config;
    caf::actor_system system{config};
};

arena::arena() {
    set_up_once();
    spdlog::set_level(spdlog::level::off); // errors are expected in a simulation
    logger().set_level(spdlog::level::off);
    parts_ = std::make_unique<parts>();
}

arena::~arena() = default;

verdict arena::run(const scenario& plan, bool keep_log) {
    return simulation{parts_->system, plan, keep_log}.run();
}

verdict arena::run_recorded(const scenario& plan, const std::string& folder) {
    simulation recorded{parts_->system, plan, false};
    if (auto problem = recorded.record(folder)) {
        verdict result;
        result.what = failure::assertion;
        result.text = describe(problem);
        return result;
    }
    return recorded.run();
}

verdict arena::run_twice(const scenario& plan) {
    auto first = run(plan);
    auto second = run(plan);
    if (first.digest == second.digest)
        return first;
    second.what = failure::not_deterministic;
    second.text = "the second run took another course";
    return second;
}

} // namespace kvferry::harness
