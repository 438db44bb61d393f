// SPDX-License-Identifier: Apache-2.0
// host_link_io's twin: the same guarantees inside one process, without sockets. A peer's region is
// "mapped" by handing out the peer's own address.
#pragma once

#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "transport/loop/resident.hpp"
#include "transport/loopback/loopback_host_network.hpp"

#include <memory>
#include <string>

namespace kvferry {

struct loopback_host_link_dependencies {
    std::shared_ptr<loopback_host_network> network;
    incarnation self;
    std::string socket_name;
    link_token token;
    limits bounds;
};

/// system_call_failed when the name is taken.
caf::expected<host_link_actor> spawn_loopback_host_link(caf::actor_system&, placement,
                                                        loopback_host_link_dependencies);

} // namespace kvferry
