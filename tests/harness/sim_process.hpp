// SPDX-License-Identifier: Apache-2.0
// One process of one rank: the product's actors on simulated threads, over simulated I/O.
#pragma once

#include "actors/rank/transfer_worker.hpp"
#include "tests/harness/cache_memory.hpp"
#include "tests/harness/network/sim_copies.hpp"
#include "tests/harness/network/sim_info_link.hpp"
#include "tests/harness/scenarios/scenario.hpp"
#include "tests/harness/sim_schedule.hpp"

#include <algorithm>
#include <memory>
#include <set>

namespace kvferry::harness {

class simulation;

struct sim_process {
    sim_process(simulation&, place, kvferry::incarnation);

    /// Spawns the rank's actors and registers its memory; tries again until that works.
    void start();

    /// SIGKILL: no goodbye. Copies go on until the kernel has ended the last thread.
    void die();
    void freeze(bool frozen);
    void slow(bool on);
    /// From now on its copies into peers' memory end in doubt.
    void doubt_copies() { doubt_->now = true; }
    bool doubts_copies() const { return doubt_->now; }
    bool has_lost(std::string_view actor) const {
        return std::any_of(deaths.begin(), deaths.end(),
                           [actor](const auto& death) { return death.first == actor; });
    }
    /// It lives, and copies of it are in doubt.
    bool in_doubt() const;
    void let_undecided_land();

    simulation* world;
    place where;
    kvferry::incarnation incarnation;
    std::string name;
    /// The thread of the loop, and the thread that copies.
    sim_home* loop;
    sim_home* copies;
    page_table pages;
    parallelism layout;
    cache_memory memory;
    transfer_worker_actor worker;
    bool published = false;
    /// Of the newest version of the messages.
    bool speaks_newest = true;
    bool dead = false;
    time_point died_at;
    /// The rank has stopped in order.
    bool stopped = false;
    /// Actors of it that died: kind and time.
    std::vector<std::pair<std::string_view, time_point>> deaths;
    std::set<caf::actor_id> dead_actors;
    /// Its sender or receiver died: the rank serves nothing more. Before its host knew that it was
    /// published, the rank may also start anew with others.
    bool failed = false;
    bool failed_before_published = false;
    /// How long it was frozen or slow. Its deadlines may be late by this time.
    std::chrono::microseconds held_up{0};

private:
    void register_memory();

    doorbell fabric_bell_;
    doorbell info_bell_;
    adopt_io io_;
    std::shared_ptr<copy_doubt> doubt_;
    std::shared_ptr<int> failing_registrations_;
};

} // namespace kvferry::harness
