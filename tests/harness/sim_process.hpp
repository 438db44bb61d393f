// SPDX-License-Identifier: Apache-2.0
// One process of one rank: the product's actors on simulated threads, over simulated I/O.
#pragma once

#include "actors/rank/transfer_worker.hpp"
#include "tests/harness/cache_memory.hpp"
#include "tests/harness/scenario.hpp"
#include "tests/harness/sim_info_link.hpp"
#include "tests/harness/sim_schedule.hpp"

#include <memory>
#include <set>

namespace kvferry::harness {

class simulation;

struct sim_process {
    sim_process(simulation&, place, incarnation);

    /// Spawns the rank's actors and registers its memory; tries again until that works.
    void start();

    /// SIGKILL: nobody says goodbye. Copies go on until the kernel has ended the last thread.
    void die();
    void freeze(bool frozen);
    void slow(bool on);

    simulation* world;
    place where;
    incarnation process;
    std::string name;
    /// The loop's thread, and the one that copies.
    sim_home* loop;
    sim_home* copies;
    page_table pages;
    parallelism layout;
    cache_memory memory;
    transfer_worker_actor worker;
    bool published = false;
    bool dead = false;
    time_point died_at;
    /// Stopped in order.
    bool stopped = false;
    /// An actor of it died: of which kind, and when.
    std::vector<std::pair<std::string_view, time_point>> deaths;
    std::set<caf::actor_id> dead_actors;
    /// Its sender or its receiver: the rank serves nothing any more.
    bool failed = false;
    /// Time that it was frozen or slow: its deadlines may be late by that.
    std::chrono::microseconds held_up{0};

private:
    void register_memory();

    doorbell fabric_bell_;
    doorbell info_bell_;
    adopt_io io_;
    std::shared_ptr<int> failing_registrations_;
};

} // namespace kvferry::harness
