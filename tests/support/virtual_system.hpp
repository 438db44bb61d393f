// SPDX-License-Identifier: Apache-2.0
// Actors under test on one thread and in virtual time: nothing runs unless the test says so.
#pragma once

#include "tests/support/caf_setup.hpp"

#include <caf/actor_registry.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry::testing {

/// The answer to a question; filled while the system runs. Dropping all copies does not cancel the
/// question.
template <class T>
class reply {
public:
    using value_type = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

    bool pending() const { return !state_->value && !state_->error; }
    bool ok() const { return state_->value.has_value(); }
    bool failed() const { return state_->error.has_value(); }
    const value_type& value() const { return state_->value.value(); }
    const caf::error& error() const { return state_->error.value(); }
    errc code() const { return failed() ? code_of(error()) : errc::none; }

private:
    friend class virtual_system;
    struct state {
        std::optional<value_type> value;
        std::optional<caf::error> error;
    };
    std::shared_ptr<state> state_ = std::make_shared<state>();
};

/// An actor system on CAF's test scheduler. Actors whose last handle is dropped end by themselves;
/// those that hold each other's handles are named with track() and killed at the end of the test.
class virtual_system {
public:
    virtual_system() {
        clock().current_time += std::chrono::hours{1}; // time 0 has a special meaning to some code
    }

    ~virtual_system() {
        for (auto& [address, id] : tracked_)
            if (auto strong = caf::actor_cast<caf::strong_actor_ptr>(address))
                caf::anon_send_exit(strong, caf::exit_reason::kill);
        run();
        clock().schedule.clear(); // timers hold references to their actors
        run();
        if (auto living = system_.registry().running(); living != 0) {
            // otherwise the test would hang: the system waits for its actors
            std::fprintf(stderr, "%zu actors outlive their virtual_system: track() them\n", living);
            std::abort();
        }
    }

    virtual_system(const virtual_system&) = delete;
    virtual_system& operator=(const virtual_system&) = delete;

    caf::actor_system& system() { return system_; }
    caf::scheduler::test_coordinator& scheduler() {
        return dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler());
    }

    /// Kills the actor at the end of the test if it still lives.
    template <class Handle>
    Handle track(Handle actor) {
        tracked_.emplace_back(actor.address(), actor.id());
        return actor;
    }

    /// Runs until no actor has mail. Time does not pass.
    void run() { scheduler().run(); }

    /// Lets time pass. Timers that fall due go off one by one, each at its own time.
    void advance(std::chrono::nanoseconds duration) {
        run();
        const auto until = clock().current_time + duration;
        auto& timers = clock().schedule;
        while (!timers.empty() && timers.begin()->first <= until) {
            const auto due = std::max(timers.begin()->first, clock().current_time);
            clock().advance_time(due - clock().current_time);
            run();
        }
        clock().advance_time(until - clock().current_time);
        run();
    }

    std::chrono::steady_clock::time_point now() { return clock().now(); }

    /// Asks an actor and returns at once: reply<instance_info> r = vs.ask<instance_info>(to, m).
    template <class T, class Handle, class Message>
    reply<T> ask(const Handle& to, Message message) {
        reply<T> result;
        auto run = [to, state = result.state_,
                    message = std::move(message)](caf::event_based_actor* self) {
            auto failed = [state](caf::error& error) { state->error = std::move(error); };
            auto question = self->request(to, caf::infinite, message);
            if constexpr (std::is_void_v<T>)
                question.then([state] { state->value.emplace(); }, failed);
            else
                question.then([state](T& value) { state->value = std::move(value); }, failed);
        };
        system_.spawn(std::move(run));
        return result;
    }

    /// Asks, and runs until no actor has mail.
    template <class T, class Handle, class Message>
    reply<T> ask_and_run(const Handle& to, Message message) {
        auto result = ask<T>(to, std::move(message));
        run();
        return result;
    }

    /// Sends without wanting an answer, and runs.
    template <class Handle, class Message>
    void tell_and_run(const Handle& to, Message message) {
        caf::anon_send(to, std::move(message));
        run();
    }

    /// Sends, runs the receiver alone, and says how many actors it has given mail to.
    template <class Handle, class Message>
    std::size_t disturbed_by(const Handle& to, Message message) {
        run();
        caf::anon_send(to, std::move(message));
        scheduler().run_once();
        const auto result = scheduler().jobs.size();
        run();
        return result;
    }

private:
    struct configuration : caf::actor_system_config {
        configuration() { set("caf.scheduler.policy", "testing"); }
    };

    caf::detail::test_actor_clock& clock() { return scheduler().clock(); }

    configuration configuration_;
    caf::actor_system system_{configuration_};
    std::vector<std::pair<caf::actor_addr, caf::actor_id>> tracked_;
};

} // namespace kvferry::testing
