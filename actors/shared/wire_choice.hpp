// SPDX-License-Identifier: Apache-2.0
// Which wires a host wants between machines, and which of them a rank takes.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

/// What a host asks for; automatic takes UCX where it has RDMA hardware, and our own TCP sockets.
enum class wire_choice : std::uint8_t { automatic = 0, ucx = 1, tcp = 2 };

/// Parses "auto", "ucx", "tcp". invalid_argument names the text and the choices.
caf::expected<wire_choice> parse_wire_choice(std::string_view);

std::string to_string(wire_choice);

/// The wires of a rank.
struct chosen_wires {
    /// UCX is started at all.
    bool ucx = false;
    /// UCX may use its own TCP transport: its port takes writes of anybody who reaches it.
    bool ucx_over_tcp = false;
    bool tcp = false;
    /// For people: "tcp: there is no RDMA adapter here".
    std::string why;
};

/// `rdma`: the machine has an adapter that this process sees.
chosen_wires wires_for(wire_choice, bool rdma);

} // namespace kvferry
