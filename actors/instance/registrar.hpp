// SPDX-License-Identifier: Apache-2.0
// Introduces a rank to its instance's rank-info server again and again: the server lives in rank 0,
// and when rank 0 alone restarts, its roster is empty.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "actors/decisions/registration.hpp"
#include "messages/limits.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

struct registrar_state {
    static inline constexpr const char* name = "registrar";

    struct dependencies {
        limits bounds;
        /// As it was published.
        rank_info self;
        /// "host:port" of the own instance's rank-info server.
        std::string endpoint;
        info_link_actor info_link;
        /// The registrar ends with it.
        transfer_worker_actor worker;
        std::uint64_t seed = 0;
        deciders_ptr deciders = {};
        rank_counters_ptr counters = {};
        /// Where the rank answers questions about itself.
        std::vector<std::string> answers_at = {};
    };

    registrar_state(registrar_actor::pointer self, dependencies);

    registrar_actor::behavior_type make_behavior();

private:
    void on_tick(const deadline_tick&);
    void tell_value(registration::event);
    void perform(registration::introduce&);
    void perform(registration::wake&);
    void perform(registration::known_again&);
    void perform(registration::unanswered&);
    void perform(registration::displaced&);
    void perform(registration::give_up&);

    registrar_actor::pointer self_;
    dependencies with_;
    registration registration_;
    decider<registration> decider_;
};

} // namespace kvferry
