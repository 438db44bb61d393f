// SPDX-License-Identifier: Apache-2.0
// A wire of the fabric between processes of one host: a ring in shared memory for each connection.
#pragma once

#include "messages/limits.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/loop/io_loop.hpp"

#include <memory>
#include <string>

namespace kvferry {

struct shm_wire_options {
    limits bounds = {};
    /// Absolute path of a folder where the socket is also offered as a file, and where peers'
    /// sockets are looked for that have no abstract name here; empty: none.
    std::string folder = {};
    /// Names the machine; empty: its boot id.
    std::string machine = {};
};

/// On the loop's thread, where it stays. system_call_failed when nobody could connect to it; then
/// nothing is left.
caf::expected<std::unique_ptr<wire>> make_shm_wire(io_loop&, shm_wire_options = {});

} // namespace kvferry
