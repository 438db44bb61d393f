// SPDX-License-Identifier: Apache-2.0
// A blocking actor for a host's thread.
#pragma once

#include <caf/logger.hpp>
#include <caf/scoped_actor.hpp>

namespace kvferry {

/// CAF leaves a reference to the system's logger in every thread that spawns an actor, makes a
/// scoped actor or a system, and the destructor of a system waits until nobody holds its logger:
/// for ever when it runs on another thread. Call this on the thread.
inline void let_go_of_logger() {
    caf::logger::set_current_actor_system(nullptr);
}

/// Does so at the end of a call in which a host's thread spawns actors.
class call_that_spawns {
public:
    call_that_spawns() = default;
    call_that_spawns(const call_that_spawns&) = delete;
    call_that_spawns& operator=(const call_that_spawns&) = delete;
    ~call_that_spawns() { let_go_of_logger(); }
};

class host_actor : public caf::scoped_actor {
public:
    explicit host_actor(caf::actor_system& system, bool hidden = false)
        : caf::scoped_actor(system, hidden) {
        let_go_of_logger();
    }
};

} // namespace kvferry
