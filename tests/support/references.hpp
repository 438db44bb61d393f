// SPDX-License-Identifier: Apache-2.0
// Who still names an actor: for tests that an actor which has ended is forgotten.
#pragma once

#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>

#include <cstddef>

namespace kvferry::testing {

/// Names an actor without keeping it alive. While anybody else does so too (a monitor is enough),
/// CAF keeps the memory of the actor after its end.
class watched_actor {
public:
    template <class Handle>
    explicit watched_actor(const Handle& actor)
        : watched_(caf::actor_cast<caf::weak_actor_ptr>(actor)) {}

    /// Handles and monitors besides this one; 0: its memory goes with this.
    std::size_t references() const {
        const auto strong = watched_->strong_refs.load();
        // All handles together count as one weak reference.
        return strong + watched_->weak_refs.load() - (strong > 0 ? 2 : 1);
    }

private:
    caf::weak_actor_ptr watched_;
};

} // namespace kvferry::testing
