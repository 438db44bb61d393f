// SPDX-License-Identifier: Apache-2.0
// A TCP connection by a deadline, given up at once when somebody says so.
#pragma once

#include "messages/info_endpoint.hpp"
#include "messages/local_messages.hpp"
#include "transport/unique_fd.hpp"

namespace kvferry {

/// Blocks the calling thread until `until` at most; tries all addresses of a name, each for its
/// share of the time. Once `hang_up` (an eventfd) is readable it ends. Only the look-up of a name
/// that is no address can take longer: the C library offers no way to end it.
/// dial_failed names the system's reason. The socket is non-blocking.
caf::expected<unique_fd> connect_socket(const info_endpoint&, time_point until, int hang_up);

} // namespace kvferry
