// SPDX-License-Identifier: Apache-2.0
// Virtual time and the order of everything: one seed decides which actor runs next, how long it
// takes, and with what it is interleaved.
#pragma once

#include "messages/local/local_messages.hpp"
#include "tests/harness/random_source.hpp"
#include "tests/harness/sim_trace.hpp"
#include "transport/loop/resident.hpp"

#include <caf/actor_addr.hpp>
#include <caf/actor_system.hpp>
#include <caf/resumable.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvferry::harness {

class sim_schedule;

/// A thread of a simulated process: its actors take turns in an order drawn from the seed. While
/// it is frozen their mail waits, as it does in a process that was sent SIGSTOP.
class sim_home : public home_unit {
public:
    sim_home(sim_schedule& schedule, std::string name, std::chrono::microseconds job_cost_max);

    void exec_later(caf::resumable*) override;

    void set_job_cost_max(std::chrono::microseconds x) { job_cost_max_ = x; }
    void freeze(bool frozen) { frozen_ = frozen; }
    bool frozen() const { return frozen_; }

    /// Every actor that ever ran here and lives, by name.
    std::vector<std::string> living() const;

    /// One of the actors of that name that live here dies; 0: there is none.
    caf::actor_id end_one(std::string_view actor);

    /// Ends all actors at once, as the end of a process does: none of them says goodbye.
    void kill();

private:
    friend class sim_schedule;

    bool has_job() const { return !ready_.empty(); }
    void run_one(std::size_t index);

    sim_schedule* schedule_;
    std::string name_;
    std::chrono::microseconds job_cost_max_;
    std::vector<caf::resumable*> ready_;
    std::map<caf::actor_id, caf::actor_addr> seen_;
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

    /// An event of the world outside all actors: the network, the kernel, the orchestrator.
    void at(time_point, std::function<void()>);
    void after(std::chrono::microseconds wait, std::function<void()> what) {
        at(now() + wait, std::move(what));
    }

    /// Runs until that time or until `over` is true; false when too many steps were needed.
    bool run_until(time_point, const std::function<bool()>& over = {});

    /// Appends to the event log. Two runs of one seed have the same log.
    void log(std::string_view what, std::uint64_t a = 0, std::uint64_t b = 0);
    /// For readers only: it is no part of the digest.
    void note(const std::string& what);
    std::uint64_t digest() const { return digest_; }
    const std::vector<std::string>& lines() const { return lines_; }
    bool keeps_log() const { return keep_log_; }
    std::uint64_t steps() const { return steps_; }

    /// From now on what happens is recorded in that folder.
    caf::error record(const std::string& folder, const std::string& name);

    /// The recording is complete, if there is one.
    void end_recording() { trace_.reset(); }

    /// Kills every actor and forgets timers and events; the names of what does not end.
    std::vector<std::string> clear();

private:
    friend class sim_home;

    bool step(time_point until);
    void advance(time_point);
    void run_homeless();

    caf::actor_system* system_;
    caf::scheduler::test_coordinator* coordinator_;
    caf::detail::test_actor_clock* clock_;
    random_source random_;
    time_point began_;
    std::vector<std::unique_ptr<sim_home>> homes_;
    std::vector<sim_home*> runnable_;
    std::multimap<time_point, std::function<void()>> events_;
    std::uint64_t digest_ = 0xcbf29ce484222325ull;
    std::uint64_t steps_ = 0;
    bool keep_log_;
    std::vector<std::string> lines_;
    std::unique_ptr<sim_trace> trace_;
};

} // namespace kvferry::harness
