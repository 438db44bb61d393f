// SPDX-License-Identifier: Apache-2.0
// Actors that live on one thread: their mail goes to that thread's loop, so their handlers may call
// what belongs to it without a lock. Without a home they run on CAF's scheduler; tests use that to
// run the same actors on virtual time.
#pragma once

#include "messages/trace/rank_counters.hpp"
#include "messages/trace/trace.hpp"
#include "messages/trace/trace_actor.hpp"

#include <caf/actor_config.hpp>
#include <caf/actor_system.hpp>
#include <caf/execution_unit.hpp>
#include <caf/stateful_actor.hpp>

#include <utility>

namespace kvferry {

/// An execution unit that keeps the actors it was given (io_loop is one). exec_later may be
/// called from any thread; the unit outlives its actors.
class home_unit : public caf::execution_unit {
public:
    using caf::execution_unit::execution_unit;
};

/// Where an actor lives; a null unit means CAF's scheduler.
struct placement {
    home_unit* unit = nullptr;
};

/// Base of an actor with a home: its mail is handled there, whichever thread sent it. Its failures
/// are counted for the rank that spawned it: that of the running actor, or of counting_for.
template <class Interface>
class resident : public Interface::base {
public:
    using super = typename Interface::base;

    explicit resident(caf::actor_config& cfg)
        : super(cfg), home_(dynamic_cast<home_unit*>(cfg.host)),
          counters_(counters_of_thread ? *counters_of_thread : nullptr) {}

    using super::enqueue;

    bool enqueue(caf::mailbox_element_ptr mail, caf::execution_unit* unit) override {
        trace::last_delivery = {mail.get(), this->id()};
        return super::enqueue(std::move(mail), home_ ? home_ : unit);
    }

    caf::resumable::resume_result resume(caf::execution_unit* unit, size_t messages_max) override {
        const auto* before = std::exchange(trace::running_actor, this);
        const counting_for rank{counters_};
        const auto result = super::resume(unit, messages_max);
        trace::running_actor = before;
        return result;
    }

    bool cleanup(caf::error&& reason, caf::execution_unit* unit) override {
        trace::event ended;
        ended.actor = this->name();
        ended.actor_id = static_cast<std::uint32_t>(this->id());
        ended.what = trace::instant::actor_ended;
        ended.ticks = trace::now();
        trace::record(ended);
        return super::cleanup(std::move(reason), unit);
    }

    void launch(caf::execution_unit* unit, bool lazy, bool hide) override {
        super::launch(home_ ? home_ : unit, lazy, hide);
    }

private:
    home_unit* home_;
    const rank_counters_ptr counters_;
};

/// Spawns an actor at a place; its state is `State`, constructed with `self` and the arguments.
template <class Interface, class State, class... Args>
Interface spawn_at(caf::actor_system& system, placement where, Args&&... args) {
    caf::actor_config cfg{where.unit};
    return system.template spawn_impl<caf::stateful_actor<State, resident<Interface>>,
                                      caf::no_spawn_options>(cfg, std::forward<Args>(args)...);
}

} // namespace kvferry
