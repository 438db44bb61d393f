// SPDX-License-Identifier: Apache-2.0
// The info link of a simulated rank: the product's exchange, over the simulated network.
#pragma once

#include "actors/instance/info_exchange.hpp"
#include "tests/harness/network/sim_network.hpp"

#include <map>
#include <string>

namespace kvferry::harness {

/// Which server listens where; shared by all info links of one simulation.
struct info_directory {
    struct entry {
        kvferry::incarnation incarnation;
        rank_info_server_actor server;
        /// The info link in the server's own process.
        ticking_info_link::pointer through = nullptr;
        doorbell* bell = nullptr;
    };
    std::map<info_endpoint, entry> servers;
};

class sim_info_link_state : public info_exchange {
public:
    static inline constexpr const char* name = "sim_info_link";

    struct dependencies {
        limits bounds;
        sim_network* network = nullptr;
        info_directory* directory = nullptr;
        doorbell* bell = nullptr;
        incarnation self;
        /// The endpoint of this rank's own server, if it has one.
        info_endpoint own_endpoint;
    };

    sim_info_link_state(ticking_info_link::pointer self, dependencies);

    ticking_info_link::behavior_type make_behavior();

private:
    void call(exchange_id, call_info_server) override;
    void hang_up(exchange_id) override {}
    caf::result<info_server_published> on_publish(const publish_info_server&);
    void on_tick(const deadline_tick&);

    dependencies with_;
};

} // namespace kvferry::harness
