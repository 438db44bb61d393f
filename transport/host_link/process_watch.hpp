// SPDX-License-Identifier: Apache-2.0
// A descriptor of another process that becomes readable when the last thread of that process has
// ended.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/same_host/unix_socket.hpp"

namespace kvferry {

/// The pidfd of the process at the other end of a connection. peer_gone when it has ended already;
/// unsupported when this kernel or namespace cannot give the pidfd: then its memory must not be
/// mapped. Never the pidfd of another process that reused the process id.
caf::expected<unique_fd> watch_process(const unix_socket& connection);

} // namespace kvferry
