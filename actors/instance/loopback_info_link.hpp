// SPDX-License-Identifier: Apache-2.0
// info_link without a network: one of these serves all ranks of a process, in tests and in hosts
// that keep both sides in one process.
#pragma once

#include "actors/instance/info_exchange.hpp"
#include "transport/loop/resident.hpp"

#include <map>

namespace kvferry {

class loopback_info_link_state : public info_exchange {
public:
    static inline constexpr const char* name = "loopback_info_link";

    struct dependencies {
        /// Used: info_calls_max, message_bytes_max.
        limits bounds;
        /// Servers that are there from the beginning, by endpoint; publishing adds to them.
        std::map<info_endpoint, rank_info_server_actor> servers;
    };

    loopback_info_link_state(ticking_info_link::pointer self, dependencies);

    ticking_info_link::behavior_type make_behavior();

private:
    void call(exchange_id, call_info_server) override;
    void hang_up(exchange_id) override {}
    caf::result<info_server_published> on_publish(const publish_info_server&);

    std::map<info_endpoint, rank_info_server_actor> servers_;
};

info_link_actor spawn_loopback_info_link(caf::actor_system&, placement,
                                         loopback_info_link_state::dependencies);

} // namespace kvferry
