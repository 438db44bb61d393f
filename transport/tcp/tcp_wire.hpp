// SPDX-License-Identifier: Apache-2.0
// How the layers above get a wire over TCP sockets of our own.
#pragma once

#include "messages/limits.hpp"
#include "messages/values/ids.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/secure/security.hpp"

#include <caf/expected.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

struct tcp_options {
    incarnation self = {};
    limits bounds = {};
    /// IP address to listen at; empty or a wildcard: all of the machine.
    std::string listen = {};
    /// IP addresses under which peers reach it, the most likely first; empty: `listen`.
    std::vector<std::string> hosts = {};
    /// Sockets for the bytes of puts to one peer; 0: one for each of `threads`, at most 4, or 8
    /// that encrypt.
    std::size_t bulk_sockets = 0;
    /// That make the long calls of these sockets; below 2 the loop makes them itself.
    std::size_t threads = 1;
    /// Whom it serves and believes.
    security_ptr secured = security::of_this_user();
    /// Bytes of puts are not protected once their socket has proven itself: security_options.
    bool plain_bulk = false;

    bool encrypts() const { return secured && secured->needs_proof() && !plain_bulk; }
};

/// On the loop's thread. system_call_failed: with the call and the address.
caf::expected<std::unique_ptr<wire>> make_tcp_wire(io_loop&, tcp_options);

} // namespace kvferry
