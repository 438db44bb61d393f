// SPDX-License-Identifier: Apache-2.0
// What a UCX context can use on this machine: pairs of transport and device.
#pragma once

#include <caf/error.hpp>

#include <string>
#include <string_view>
#include <vector>

struct ucp_context; // UCX's own

namespace kvferry {

struct ucx_resource {
    /// "tcp", "rc_verbs", "posix"
    std::string transport;
    /// "lo", "mlx5_0:1", "memory"
    std::string device;

    friend bool operator==(const ucx_resource&, const ucx_resource&) = default;
};

/// Out of ucp_context_print_info; what UCX_TLS and UCX_NET_DEVICES leave out is not there.
std::vector<ucx_resource> resources_of(ucp_context*);

/// The same from its text.
std::vector<ucx_resource> parse_resources(std::string_view text);

/// Whether a transport reports the death of a peer. UCX leaves the others out of kvferry's
/// endpoints, because kvferry requires peer error handling.
bool reports_death(std::string_view transport);

/// Whether a transport's puts are done by hardware.
bool has_rma_hardware(std::string_view transport);

/// unsupported unless one of these tells when a peer dies: without it no rank can be reached.
caf::error check_resources(const std::vector<ucx_resource>&);

/// "1.13.1": of the library that is loaded.
std::string ucx_version();

/// Empty, or what this version of UCX is known to do to a process whose peer dies.
std::string known_trouble(std::string_view ucx_version);

} // namespace kvferry
