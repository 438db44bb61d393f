// SPDX-License-Identifier: Apache-2.0
// Where a rank listens and under which addresses others find it. Pure: from its options and the
// network devices of its machine.
#pragma once

#include "actors/host/worker.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/secure/security.hpp"
#include "transport/ucx/network_devices.hpp"

#include <string>
#include <vector>

namespace kvferry {

/// worker_options::advertise without its port.
std::string advertised_host(const worker_options&);

class rank_addresses {
public:
    /// `options` must outlive it. `named`: what UCX_NET_DEVICES says; empty when it is not set.
    rank_addresses(const worker_options& options, security::mode how,
                   std::vector<network_device> devices, std::string named);

    /// invalid_argument: UCX_NET_DEVICES names a device that is not here.
    caf::error check_named() const;

    /// invalid_argument: nobody could dial what is to be advertised.
    caf::error check_advertised() const;

    /// The network devices for UCX: those of the address that others know, else of the one bound
    /// to. Empty: all.
    caf::expected<std::string> for_ucx() const;

    struct tcp_place {
        /// Empty: every address.
        std::string listen;
        /// What peers dial, in this order.
        std::vector<std::string> hosts;
    };
    tcp_place for_tcp() const;

    /// Where other instances find the server that listens at `bound`. A wildcard is never handed
    /// out: invalid_argument says what to advertise.
    caf::expected<std::string> for_others(const info_endpoint& bound) const;

private:
    const worker_options& options_;
    security::mode how_;
    std::vector<network_device> devices_;
    std::string named_;
};

} // namespace kvferry
