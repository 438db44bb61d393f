// SPDX-License-Identifier: Apache-2.0
// Whose the other end of a connection over a loopback address is.
#pragma once

#include <caf/error.hpp>
#include <caf/expected.hpp>

#include <cstdint>
#include <string>
#include <sys/types.h>

namespace kvferry {

/// The user whose process has the other end of a connected TCP socket of this machine.
/// foreign_peer: it is not over a loopback address. system_call_failed: the kernel does not tell.
/// Asks the kernel's socket diagnostics, which answer everybody about one socket at a time.
caf::expected<uid_t> owner_of_peer(int socket);

/// The same of the listening socket that a connected socket was dialled to. A connection that
/// nobody has accepted yet belongs to nobody.
caf::expected<uid_t> owner_of_listener(int socket);

/// The address of the other end, without its port; empty when the socket is not connected.
std::string peer_address(int socket);

} // namespace kvferry
