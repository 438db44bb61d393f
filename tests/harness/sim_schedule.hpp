// SPDX-License-Identifier: Apache-2.0
// Virtual time and the order of all events. One seed decides which actor runs next, how long it
// takes, and how actors interleave.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "tests/harness/scenarios/random_source.hpp"
#include "tests/harness/sim_trace.hpp"
#include "transport/loop/resident.hpp"

#include <caf/actor_addr.hpp>
#include <caf/actor_system.hpp>
#include <caf/resumable.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::harness {

class sim_schedule;

/// A thread of a simulated process. Its actors take turns in an order drawn from the seed, each
/// with what it was told first. While it is frozen their mail waits, as in a process that got
/// SIGSTOP.
class sim_home : public home_unit {
public:
    sim_home(sim_schedule& schedule, std::string name, std::chrono::microseconds job_cost_max);

    void exec_later(caf::resumable*) override;
    std::shared_ptr<home_door> door() const override { return door_; }
    void later(errand_ptr) override;

    void set_job_cost_max(std::chrono::microseconds x) { job_cost_max_ = x; }
    void freeze(bool frozen) { frozen_ = frozen; }
    bool frozen() const { return frozen_; }

    /// Names of all living actors that ever ran here.
    std::vector<std::string> living() const;

    /// Ends one living actor of that name here; 0: not found.
    caf::actor_id end_one(std::string_view actor);

    /// Ends all actors at once without goodbyes, as the end of a process does.
    void kill();

private:
    friend class sim_schedule;

    /// An actor with mail in its mailbox, and a reference to it; or one errand.
    struct turn {
        caf::resumable* job = nullptr;
        errand_ptr what;
        const errand_taker* taker = nullptr;
    };

    /// The only thread of all comes through it, too, when it is nobody's turn.
    struct from_outside final : home_door {
        explicit from_outside(sim_home& to) : to(to) {}
        errand_ptr hand_in(errand_ptr what) override {
            to.later(std::move(what));
            return nullptr;
        }
        sim_home& to;
    };

    bool has_job() const { return !ready_.empty(); }
    void add(turn);
    void meet(caf::abstract_actor&);
    /// Those that live, in the order of their making.
    std::vector<caf::strong_actor_ptr> actors() const;
    std::size_t first_of(const errand_taker*) const;
    void run_one(std::size_t index);
    void run(turn);

    std::shared_ptr<home_door> door_ = std::make_shared<from_outside>(*this);
    sim_schedule* schedule_;
    std::string name_;
    std::chrono::microseconds job_cost_max_;
    /// In the order of arrival.
    std::vector<turn> ready_;
    /// How many of them are errands that go first.
    std::size_t urgent_ = 0;
    /// Each actor that ever had a turn here, once.
    std::vector<caf::actor_addr> seen_;
    time_point not_before_;
    std::uint64_t number_ = 0;
    bool frozen_ = false;
};

/// Runs homes, events and timers of one simulation on the test clock of an actor system.
class sim_schedule {
public:
    sim_schedule(caf::actor_system&, std::uint64_t seed, bool keep_log);
    ~sim_schedule();

    caf::actor_system& system() { return *system_; }
    random_source& random() { return random_; }
    time_point now() const { return clock_->current_time; }
    /// Since the beginning of the simulation.
    std::chrono::microseconds elapsed() const;

    /// The home lives as long as the schedule.
    sim_home& make_home(std::string name, std::chrono::microseconds job_cost_max);

    /// An event outside all actors: of the network, the kernel or the orchestrator.
    void at(time_point, std::function<void()>);
    void after(std::chrono::microseconds wait, std::function<void()> what) {
        at(now() + wait, std::move(what));
    }

    /// Runs until that time, or until `over` is true. False when it takes too many steps.
    bool run_until(time_point, const std::function<bool()>& over = {});

    /// Appends to the event log. Two runs of one seed have the same log.
    void log(std::string_view what, std::uint64_t a = 0, std::uint64_t b = 0);
    /// For readers only: does not count in the digest.
    void note(const std::string& what);
    std::uint64_t digest() const { return digest_; }
    const std::vector<std::string>& lines() const { return lines_; }
    bool keeps_log() const { return keep_log_; }
    std::uint64_t steps() const { return steps_; }

    /// From now on, records events in that folder.
    caf::error record(const std::string& folder, const std::string& name);

    /// Completes the recording, if there is one.
    void end_recording() { trace_.reset(); }

    /// Kills every actor and drops timers and events. Returns the names of actors that do not end.
    std::vector<std::string> clear();

private:
    friend class sim_home;

    bool step(time_point until);
    void advance(time_point);
    void run_homeless();
    void has_work(sim_home&);
    void ran(const sim_home&, const caf::local_actor&, std::optional<caf::type_id_t> message);

    caf::actor_system* system_;
    caf::scheduler::test_coordinator* coordinator_;
    caf::detail::test_actor_clock* clock_;
    random_source random_;
    time_point began_;
    std::vector<std::unique_ptr<sim_home>> homes_;
    /// Those with jobs, in their order; and perhaps some that had.
    std::vector<sim_home*> busy_;
    std::vector<sim_home*> runnable_;
    std::multimap<time_point, std::function<void()>> events_;
    std::uint64_t digest_ = 0xcbf29ce484222325ull;
    std::uint64_t steps_ = 0;
    bool keep_log_;
    std::vector<std::string> lines_;
    std::unique_ptr<sim_trace> trace_;
};

} // namespace kvferry::harness
