// SPDX-License-Identifier: Apache-2.0
// Introduces a rank to its instance's rank-info server again and again: the server lives in rank 0,
// and when rank 0 alone restarts, its roster is empty.
#pragma once

#include "actors/shared/back_off.hpp"
#include "messages/limits.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"

#include <optional>
#include <random>
#include <string>

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
    };

    registrar_state(registrar_actor::pointer self, dependencies);

    registrar_actor::behavior_type make_behavior();

private:
    void on_tick(const deadline_tick&);
    void registered();
    void failed(const caf::error&);
    void again_at(time_point);

    registrar_actor::pointer self_;
    dependencies with_;
    std::mt19937_64 random_;
    /// Spreads the retries while the server does not answer, so that ranks do not retry in step.
    back_off wait_;
    bool failing_ = false;
    /// Since when the server names another process in this rank's place.
    std::optional<time_point> stale_since_;
};

} // namespace kvferry
