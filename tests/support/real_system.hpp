// SPDX-License-Identifier: Apache-2.0
// An actor system with real threads, for what cannot run on virtual time: I/O loops and foreign
// libraries.
#pragma once

#include "tests/support/caf_setup.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

namespace kvferry::testing {

class real_system {
public:
    caf::actor_system& system() { return system_; }

private:
    struct configuration : caf::actor_system_config {
        configuration() {
            set("caf.scheduler.max-threads", 2);
            set("caf.work-stealing.moderate-poll-attempts", 0);
        }
    };

    configuration configuration_;
    caf::actor_system system_{configuration_};
};

} // namespace kvferry::testing
