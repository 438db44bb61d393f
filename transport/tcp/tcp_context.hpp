// SPDX-License-Identifier: Apache-2.0
// What the parts of one tcp wire share.
#pragma once

#include "transport/fabric/wire.hpp"
#include "transport/tcp/secured_stream.hpp"
#include "transport/tcp/socket_poll.hpp"
#include "transport/tcp/tcp_channel.hpp"
#include "transport/tcp/tcp_hello.hpp"
#include "transport/tcp/tcp_movers.hpp"
#include "transport/tcp/tcp_wire.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace kvferry {

class tcp_connection;
class tcp_door;

/// The outbox that a message goes into, and whom to tell that it has more.
struct tcp_way {
    tcp_outbox* out = nullptr;
    tcp_channel* channel = nullptr;
};

struct tcp_context {
    tcp_options with;
    tcp_secret secret = {};
    std::unique_ptr<socket_poll> poll;
    /// Null: the loop moves all bytes.
    std::unique_ptr<tcp_movers> movers = {};
    wire_user* user = nullptr;
    /// Null: it has ended.
    tcp_door* door = nullptr;
    std::vector<wire_event> events = {};
    std::map<endpoint_id, tcp_connection*> connections = {};
    /// Ended within a call from themselves, or of a mover; let go of after it.
    std::vector<std::unique_ptr<tcp_channel>> retired = {};

    /// Null: it has ended.
    tcp_connection* find(endpoint_id id) const {
        const auto found = connections.find(id);
        return found == connections.end() ? nullptr : found->second;
    }
    void retire(std::unique_ptr<tcp_channel> x) {
        if (!x)
            return;
        x->stop();
        retired.push_back(std::move(x));
    }
    void let_go_of_retired() {
        std::erase_if(retired, [](const auto& x) { return !x->is_apart(); });
    }
    /// Longest payload that a reader collects: a frame, or a message of a put for a device.
    std::uint64_t payload_bytes_max() const {
        return std::max<std::uint64_t>(with.bounds.message_bytes_max, std::uint64_t{1} << 20);
    }
    std::unique_ptr<byte_stream> stream_over(unique_fd fd, stream_role role,
                                             bool may_kernel_encrypt = false) const {
        return make_secured_stream(std::move(fd), role, with.secured, may_kernel_encrypt);
    }
};

/// How long a machine may be silent before its connections end: longer than links are patient, who
/// ask their peers when somebody waits.
inline std::chrono::milliseconds silence_max(const limits& bounds) {
    return 6 * bounds.link_patience;
}

} // namespace kvferry
