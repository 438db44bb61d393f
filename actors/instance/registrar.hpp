// SPDX-License-Identifier: Apache-2.0
// Introduces a rank to its instance's rank-info server again and again: the server lives with rank
// 0, and when that is started anew alone, its roster is empty.
#pragma once

#include "actors/shared/back_off.hpp"
#include "messages/limits.hpp"
#include "messages/local/local_messages.hpp"

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
        /// It ends with its worker.
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
    /// Of a server that does not answer, so that ranks do not come back in step.
    back_off wait_;
    bool failing_ = false;
};

} // namespace kvferry
