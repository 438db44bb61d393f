// SPDX-License-Identifier: Apache-2.0
// host_link_io: the same-host connections of one rank, on its loop.
//
// Whoever dials or expects a peer hears host_link_up at most once, then host_link_down exactly
// once, whoever ended the link and why, and after a link that was up process_gone exactly once,
// however much later the peer's process ends. After stop_io nothing is heard.
#pragma once

#include "messages/errors.hpp"
#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/local/local_messages.hpp"
#include "transport/loop/io_loop.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace kvferry {

/// Counted by the actor, read by anyone.
struct host_link_counters {
    /// Connections closed because of what the peer said or did not say.
    std::atomic<std::uint64_t> refused{0};
    /// Packets and commands that changed nothing.
    std::atomic<std::uint64_t> ignored{0};
};

struct host_link_dependencies {
    /// The rank's loop; outlives the actor.
    io_loop* loop = nullptr;
    incarnation self;
    /// What peers dial; host_link_name() makes one.
    std::string socket_name;
    /// A dialler that does not show it is refused.
    link_token token;
    limits bounds;
    std::shared_ptr<host_link_counters> counters = std::make_shared<host_link_counters>();
};

/// Binds the socket, then spawns the actor on its loop. system_call_failed when the socket cannot
/// be had; then nothing is left.
caf::expected<host_link_actor> spawn_host_link(caf::actor_system&, host_link_dependencies);

/// "kvferry-<incarnation in hex>": for rank_info.host_link_name.
std::string host_link_name(incarnation);

} // namespace kvferry
