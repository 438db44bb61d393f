// SPDX-License-Identifier: Apache-2.0
// The state of host_link_io: links by peer, and connections that belong to no link yet.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/host_link.hpp"
#include "transport/host_link/host_link.hpp"
#include "transport/host_link/host_link_connection.hpp"
#include "transport/host_link/offered_memory.hpp"
#include "transport/same_host/socket_file.hpp"

#include <caf/actor_control_block.hpp>
#include <caf/disposable.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

class host_link_state {
public:
    static inline constexpr const char* name = "host_link_io";

    using dependencies = host_link_dependencies;

    /// `file` may be null.
    host_link_state(host_link_actor::pointer self, dependencies,
                    std::shared_ptr<unix_socket> listener, std::shared_ptr<socket_file> file);

    host_link_actor::behavior_type make_behavior();

private:
    using connection_ptr = std::shared_ptr<host_link_connection>;

    enum class phase : std::uint8_t {
        /// Connecting, or waiting for the peer's hello.
        dialling,
        /// Waits for the connection that the peer makes.
        expected,
        up,
        /// Kept for process_gone, as long as an owner waits for it.
        ended,
    };

    /// What is known of one peer.
    struct link {
        phase state = phase::ended;
        host_link_owner_actor owner;
        connection_ptr connection;
        /// For dials.
        std::string name;
        link_token token;
        std::uint16_t protocol = protocol_version;
        /// `deadline` ends a dial or an expectation; `again` repeats a dial.
        caf::disposable deadline;
        caf::disposable again;
        /// The peer's process, as of the newest link that was up.
        unique_fd process;
        watch_handle process_watch;
        /// While it is up, for an owner that takes it over.
        offered_memory memory;
        /// Owners of ended links that were up: they get process_gone, unless the peer gets a new
        /// link before that.
        std::vector<caf::weak_actor_ptr> witnesses;
    };

    /// An accepted connection whose hello is incomplete, or whose peer is not expected yet.
    struct stranger {
        connection_ptr connection;
        caf::disposable deadline;
    };

    /// A socket on which peers connect.
    struct door {
        std::shared_ptr<unix_socket> listener;
        watch_handle watch = {};
        /// That nobody can be let in has been logged; once until descriptors are left again.
        bool told = false;
    };

    // Messages.
    void on_share(const share_region&);
    void on_dial(const host_link_dial&);
    void on_expect(const host_link_expect&);
    void on_close(const host_link_close&);
    void on_stop(const stop_io&);

    // Events of sockets and processes.
    void listen(door&);
    void on_connection(door&);
    void on_packet(host_link_connection&, host_link_packet, std::vector<unique_fd>);
    void on_dialled_hello(host_link_connection&);
    void on_accepted_hello(host_link_connection&);
    void on_process_end(incarnation);
    void on_owner_down(const caf::actor_addr&);

    // Steps.
    bool adopt(incarnation);
    void forget_stranger(const host_link_connection&);
    link* begin(incarnation, phase, const host_link_owner_actor&, std::chrono::milliseconds);
    link* begin_fresh(incarnation, phase, const host_link_owner_actor&, std::chrono::milliseconds);
    void connect(incarnation);
    caf::expected<std::optional<unix_socket>> reach(const std::string& name) const;
    caf::error start(host_link_connection&);
    caf::error send_hello(host_link_connection&, incarnation, link_token, std::uint16_t version);
    void come_up(incarnation, const connection_ptr&);
    void tell_up(incarnation, link&);
    void take_over(incarnation, link&, const host_link_owner_actor&);
    void refuse(host_link_connection&, const caf::error&);
    void drop(host_link_connection&, const caf::error&);
    void end(incarnation, const caf::error&);
    incarnation peer_of(const host_link_connection&) const;
    caf::error check(const host_link_connection&, const hello_packet&) const;

    host_link_actor::pointer self_;
    dependencies with_;
    /// By abstract name, and by file.
    std::vector<door> doors_;
    std::vector<share_region> shared_;
    std::map<incarnation, link> links_;
    std::vector<stranger> strangers_;
};

} // namespace kvferry
