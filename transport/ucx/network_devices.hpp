// SPDX-License-Identifier: Apache-2.0
// Which network devices UCX may use: those of the address that the rank is bound to or known by,
// else all that lead out of the machine.
#pragma once

#include <caf/expected.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

struct network_device {
    /// "lo", "eth0".
    std::string name;
    /// "192.0.2.2", "fd00::2".
    std::vector<std::string> addresses;
    /// RDMA ports on the same adapter, as UCX calls them: "mlx5_0:1".
    std::vector<std::string> rdma = {};

    friend bool operator==(const network_device&, const network_device&) = default;
};

/// Devices of this machine (of this network namespace) that are up.
std::vector<network_device> network_devices();

/// "eth0 (192.0.2.2, fd00::2), lo (127.0.0.1)".
std::string to_string(const std::vector<network_device>&);

/// A bridge to containers or virtual machines of this machine: every machine may have one with the
/// same address, so its address means nothing to others.
bool leads_to_containers(std::string_view device);

/// The value of UCX_NET_DEVICES that a rank of this host address gets; empty: all. A wildcard, an
/// empty text and a name count as no address.
/// invalid_argument: no device has the address.
caf::expected<std::string> devices_for(std::string_view address,
                                       const std::vector<network_device>& all);

/// The same for an address that others know: a router may translate it, so no device needs to have
/// it.
std::string devices_for_advertised(std::string_view address,
                                   const std::vector<network_device>& all);

/// Addresses under which others may reach a rank that listens at all of them: those of devices that
/// lead out, IPv4 first, or the loopback ones where nothing else is up. With `named`, a value of
/// UCX_NET_DEVICES, only of the devices that it lists, in its order.
std::vector<std::string> hosts_of(const std::vector<network_device>& all,
                                  std::string_view named = {});

/// Names of the RDMA adapters that this process may use: "mlx5_0".
std::vector<std::string> rdma_adapters();

/// invalid_argument when a value of UCX_NET_DEVICES names a device that the machine does not have.
caf::error check_named_devices(std::string_view value, const std::vector<network_device>& all);

} // namespace kvferry
