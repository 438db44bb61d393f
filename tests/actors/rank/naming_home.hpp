// SPDX-License-Identifier: Apache-2.0
// A home that knows its actors by name, so that a test can end an actor without a handle to it.
#pragma once

#include "tests/support/virtual_system.hpp"
#include "transport/loop/resident.hpp"

#include <caf/scheduled_actor.hpp>

#include <map>
#include <string_view>

namespace kvferry::testing {

class naming_home : public home_unit {
public:
    explicit naming_home(virtual_system& vs) : home_unit(&vs.system()), vs_(&vs) {}

    void exec_later(caf::resumable* job) override {
        if (job->subtype() == caf::resumable::scheduled_actor) {
            auto* actor = static_cast<caf::scheduled_actor*>(job);
            seen_.try_emplace(actor->id(), actor->address());
        }
        vs_->scheduler().jobs.push_back(job);
    }

    /// Ends the youngest living actor of that name by an unexpected error, and runs. False: not
    /// found.
    bool end(std::string_view name) {
        for (auto each = seen_.rbegin(); each != seen_.rend(); ++each) {
            auto strong = caf::actor_cast<caf::strong_actor_ptr>(each->second);
            auto* actor = strong ? caf::actor_cast<caf::abstract_actor*>(strong) : nullptr;
            if (!actor || actor->getf(caf::abstract_actor::is_terminated_flag)
                || static_cast<caf::local_actor*>(actor)->name() != name)
                continue;
            caf::anon_send_exit(strong, caf::exit_reason::unknown);
            vs_->run();
            return true;
        }
        return false;
    }

private:
    virtual_system* vs_;
    std::map<caf::actor_id, caf::actor_addr> seen_;
};

} // namespace kvferry::testing
