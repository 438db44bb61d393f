// SPDX-License-Identifier: Apache-2.0
// Sockets of the tcp wire: made, bound, dialled and accepted; none of them blocks.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <chrono>
#include <cstdint>
#include <string>

namespace kvferry {

/// Binds to an IP address and a free port; an empty host: all addresses of the machine, of both
/// families where there are both. system_call_failed: with the address and the reason.
caf::expected<unique_fd> tcp_listen(const std::string& host);

/// 0: it has none.
std::uint16_t port_of(int fd);

/// Begins to connect; writable when that has ended (connect_result). Errors as those of that.
caf::expected<unique_fd> tcp_dial(const std::string& host, std::uint16_t port);

/// How a connect has ended: dial_failed when nobody listens there, link_lost with the reason when
/// it failed otherwise.
caf::error connect_result(int fd);

/// "192.0.2.1 port 4711": the other side of a connection, or "?".
std::string peer_name(int fd);

/// Sends at once, and ends a connection whose peer's machine is gone: `patience` after something
/// was sent, and some time later when nothing was.
void prepare_connection(int fd, std::chrono::milliseconds patience);

/// The close that follows does not wait for the peer: what it has not read may be lost.
void abandon_connection(int fd) noexcept;

/// In a forked child: lets go of every descriptor that this epoll watches, and of the epoll, so
/// that the parent's death ends its connections. Asks the kernel, because the parent's own lists
/// may have been in the middle of a change.
void let_go_of_polled(int epoll_fd);

} // namespace kvferry
