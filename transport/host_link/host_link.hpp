// SPDX-License-Identifier: Apache-2.0
// host_link_io: the same-host connections of one rank, on its loop.
//
// The owner of a dial or an expectation hears host_link_up at most once, then host_link_down
// exactly once, with the reason, whichever side ended the link. If the link was up, it also hears
// process_gone exactly once, whenever the peer's process ends. After stop_io it hears nothing.
#pragma once

#include "messages/errors.hpp"
#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/io_loop.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace kvferry {

/// Counted by the actor, read by anyone.
struct host_link_counters {
    /// Connections closed because of what the peer sent or failed to send.
    std::atomic<std::uint64_t> refused{0};
    /// Packets and commands that changed nothing.
    std::atomic<std::uint64_t> ignored{0};
};

struct host_link_dependencies {
    /// The rank's loop; outlives the actor.
    io_loop* loop = nullptr;
    incarnation self;
    /// Name of the socket that peers dial; made by host_link_name().
    std::string socket_name;
    /// A dialler without this token is refused.
    link_token token;
    limits bounds;
    std::shared_ptr<host_link_counters> counters = std::make_shared<host_link_counters>();
    /// Absolute path of a folder where the socket is also offered as a file, and where peers'
    /// sockets are looked for that have no abstract name here; empty: none.
    std::string folder = {};
};

/// Binds the socket, then spawns the actor on its loop. system_call_failed when the socket cannot
/// be bound; then nothing is left behind.
caf::expected<host_link_actor> spawn_host_link(caf::actor_system&, host_link_dependencies);

/// "kvferry-<incarnation in hex>": for rank_info.host_link_name.
std::string host_link_name(incarnation);

} // namespace kvferry
