// SPDX-License-Identifier: Apache-2.0
// One simulation. Carries out a scenario in two phases (first faults, then everything heals and
// must end), stops all ranks, and reports what was wrong.
#pragma once

#include "messages/fwd.hpp"
#include "tests/harness/network/frame_referee.hpp"
#include "tests/harness/scenarios/scenario.hpp"
#include "tests/harness/sim_process.hpp"
#include "tests/harness/sim_session.hpp"
#include "tests/harness/verdict.hpp"
#include "transport/loopback/loopback_host_network.hpp"

#include <caf/result.hpp>
#include <caf/typed_actor.hpp>

#include <functional>
#include <list>
#include <memory>
#include <set>

namespace kvferry::harness {

/// internal: asks one question of a simulated process, from inside it.
using asker_actor = caf::typed_actor<
    // Call it.
    caf::result<void>(run_callback)>;

class simulation {
public:
    simulation(caf::actor_system&, scenario, bool keep_log);
    ~simulation();
    simulation(const simulation&) = delete;
    simulation& operator=(const simulation&) = delete;

    verdict run();

    /// Records the run in that folder, for `kvferry trace`.
    caf::error record(const std::string& folder);

    // -- for its parts -----------------------------------------------------------------------

    sim_schedule& schedule() { return schedule_; }
    sim_network& network() { return network_; }
    frame_referee& frames() { return frames_; }
    info_directory& directory() { return directory_; }
    const std::shared_ptr<loopback_host_network>& host_links() const { return host_links_; }
    const scenario& plan() const { return plan_; }
    limits bounds() const;
    std::string endpoint_of(side instance) const;

    /// Only the first failure is kept.
    void fail(failure, std::string text);
    /// Notes that something rare has happened.
    void reach(std::string what) { reached_.insert(std::move(what)); }
    /// How late deadlines of that process may be.
    microseconds delay_of(const sim_process& x) const { return x.held_up; }

    /// An actor of that home does it, in a turn of its own.
    void ask_in(sim_home&, std::function<void(asker_actor::pointer)>);

private:
    bool has_server(side instance) const;
    sim_process* at(place) const;
    void plan_start(place, microseconds earliest);
    sim_process& start_process(place);
    void plan_request(const planned_request&);
    void open_session(const planned_request&, side role, std::uint32_t rank, time_point give_up);
    void follow(const planned_request&);
    bool take(const recorded_step&, const planned_request&);
    void frame_arrived(const wire_message& frame);
    void carry_out(const planned_cancel&, const planned_request&);
    void plan_fault(const planned_fault&);
    void plan_since(since, microseconds, std::function<void()>);
    void has_come(since);
    void begin_fault(const planned_fault&);
    void end_fault(const planned_fault&);
    void end_actor(sim_process&, std::string_view actor);
    void restart_instance(const planned_fault&);
    void replay_frame();

    bool run_for(microseconds, const std::function<bool()>& over);
    bool all_ended();
    bool all_released() const;
    bool may_stay_lent(const sim_session&) const;
    bool may_have_asked(const sim_session& reader, const sim_process& writer) const;
    bool cannot_report(const sim_session& reader, const sim_process& writer) const;
    bool proven_gone(const sim_session& reader, const sim_process& writer) const;
    bool has_lent(const sim_process&) const;
    void check_ended();
    void check_released();
    void check_told();
    void check_withdrawn();
    void check_one_copy();
    bool another_attempt_was_meant(const sim_session& reader, const sim_session& writer) const;
    void check_deaths_noticed();
    void check_silence_noticed();
    void check_actor_deaths_told();
    bool lost_with(const sim_process&, std::string_view actor, time_point when,
                   const sim_session&) const;
    void check_forgotten();
    void check_recovery();
    bool probe_succeeds(planned_request&);
    void check_statistics();
    std::string wrong_statistics();
    void stop_all();
    void check_memory();

    scenario plan_;
    sim_schedule schedule_;
    sim_network network_;
    std::shared_ptr<loopback_host_network> host_links_ = std::make_shared<loopback_host_network>();
    info_directory directory_;
    frame_referee frames_;
    std::vector<std::unique_ptr<sim_process>> processes_;
    std::map<std::pair<side, std::uint32_t>, sim_process*> current_;
    std::map<std::pair<side, std::uint32_t>, std::uint64_t> starts_;
    std::list<sim_session> sessions_;
    /// One that had not ended when all were looked at.
    const sim_session* awaited_ = nullptr;
    /// Their sessions point to them.
    std::list<planned_request> probes_;
    std::uint64_t last_process_ = 0;
    /// How far each recorded request is.
    struct recorded_course {
        std::size_t next = 0;
        std::uint32_t frames = 0;
        bool waits = false;
    };
    std::map<const planned_request*, recorded_course> courses_;
    /// Who asks in a home.
    struct home_asker {
        asker_actor actor;
        asker_actor::pointer self = nullptr;
    };
    std::map<sim_home*, home_asker> askers_;
    /// Actions that wait for an event to happen first.
    std::multimap<since, std::pair<microseconds, std::function<void()>>> armed_;
    /// Number of sessions that hosts will open as soon as their rank is ready.
    std::uint64_t still_to_open_ = 0;
    bool healing_ = false;
    verdict verdict_;
    std::set<std::string> reached_;
};

} // namespace kvferry::harness
