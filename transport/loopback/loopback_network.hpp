// SPDX-License-Identifier: Apache-2.0
// The twins of one process, their addresses and what is on its way between them: replaces the
// network.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/sessions.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/fabric/wired_fabric_actor.hpp"

#include <caf/actor_addr.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

/// What a twin sends over one of its connections.
struct loopback_packet {
    std::uint64_t from = 0;
    endpoint_id over;
    /// With a tag the sender hears when it was taken.
    std::uint64_t tag = 0;
    /// None: a flush.
    std::optional<fabric_message> message = {};
    byte_buffer head = {};
    byte_buffer payload = {};
};

/// Shared by all twins that shall reach each other. What waits for a twin waits here, in order;
/// deadline_tick tells the twin to look.
class loopback_network {
public:
    using item = std::variant<loopback_packet, wire_event>;

    static byte_buffer address_of(std::uint64_t twin);
    /// invalid_argument: not a loopback address.
    static caf::expected<std::uint64_t> twin_at(byte_view address);

    /// Registers a twin and returns its number.
    std::uint64_t attach(const wired_fabric_actor&);
    /// Forgets a twin. Connections to it break.
    void detach(std::uint64_t twin);

    /// False: nobody is there.
    bool connect(std::uint64_t from, endpoint_id, std::uint64_t to);
    void disconnect(std::uint64_t from, endpoint_id, std::uint64_t to);

    /// Nothing happens if the twin is not there.
    void push(std::uint64_t twin, item);
    void ring(std::uint64_t twin);
    /// What has waited longest, until that makes so many bytes. The twin is told to look again when
    /// something is left.
    std::vector<item> take(std::uint64_t twin, std::uint64_t bytes);

private:
    struct twin_end {
        caf::actor_addr actor;
        std::deque<item> waiting = {};
        /// It has been told to look, and has not looked yet.
        bool rung = false;
        /// Connections of others to it.
        std::set<std::pair<std::uint64_t, endpoint_id>> connected = {};
    };

    mutable std::mutex mutex_;
    std::map<std::uint64_t, twin_end> twins_;
    std::uint64_t last_ = 0;
};

} // namespace kvferry
