// SPDX-License-Identifier: Apache-2.0
// A world without network and sockets, in which ranks of one process meet: the twins of fabric,
// same-host link and info exchange.
#pragma once

#include "messages/interfaces.hpp"
#include "transport/loopback/loopback_host_network.hpp"
#include "transport/loopback/loopback_network.hpp"

#include <memory>

namespace kvferry {

/// Give it to every worker that is to reach the others (worker_options::world). Destroy it before
/// the actor system.
class loopback_world {
public:
    explicit loopback_world(caf::actor_system&);
    ~loopback_world();
    loopback_world(const loopback_world&) = delete;
    loopback_world& operator=(const loopback_world&) = delete;

    const std::shared_ptr<loopback_network>& network() const { return network_; }
    const std::shared_ptr<loopback_host_network>& host_links() const { return host_links_; }
    const info_link_actor& info_link() const { return info_link_; }

private:
    std::shared_ptr<loopback_network> network_ = std::make_shared<loopback_network>();
    std::shared_ptr<loopback_host_network> host_links_ = std::make_shared<loopback_host_network>();
    info_link_actor info_link_;
};

} // namespace kvferry
