// SPDX-License-Identifier: Apache-2.0
// The TCP side of a rank-info server: passes frames in and the server's answers out.
//
// A broker of CAF's network layer, not a published actor: publishing would open the whole actor
// system to anyone who reaches the port (exit messages, its spawn and configuration servers).
// Besides, two processes whose hosts look alike (containers with the same process id and MAC
// address) have the same node id there, and CAF would silently take one for the other.
#pragma once

#include "actors/instance/info_door.hpp"
#include "actors/instance/info_visitor.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "transport/secure/security.hpp"
#include "transport/secure/stranger_ledger.hpp"

#include <caf/io/broker.hpp>

#include <memory>
#include <unordered_map>

namespace kvferry {

class info_listener_state {
public:
    static inline constexpr const char* name = "info_listener";

    struct dependencies {
        caf::intrusive_ptr<info_door> door;
        /// The listener ends with it; null on other ranks than 0, and then with `teller`.
        rank_info_server_actor server;
        /// Used: info_deadline (a connection without a question, or after its answer),
        /// info_questions_max (connections), info_strangers_per_address_max,
        /// info_stranger_bytes_max, message_bytes_max.
        limits bounds;
        security_ptr security;
        /// Gets questions about the rank itself, and all where there is no server. Null: it says
        /// nothing of itself.
        rank_teller_actor teller = {};
    };

    info_listener_state(caf::io::broker* self, dependencies);

    caf::behavior make_behavior();

private:
    using handle_type = caf::io::connection_handle;

    void on_connection(const caf::io::new_connection_msg&);
    void on_data(const caf::io::new_data_msg&);
    void on_closed(const caf::io::connection_closed_msg&);
    void on_door_closed(const caf::io::acceptor_closed_msg&);
    void on_deadline(const deadline_tick&);

    void pause(const caf::error& why);
    void ask_server(handle_type, info_frame question);
    template <class Actor>
    void ask(handle_type, const Actor&, info_frame question);
    const char* what() const;
    void answer(handle_type, const info_frame&);
    void write(handle_type, const byte_buffer&);
    void refuse(handle_type, const caf::error& why);
    void log_refusal(handle_type, const caf::error& why);
    void drop(handle_type);
    void drop(const std::vector<stranger_ledger::id>&);
    void rearm();

    caf::io::broker* self_;
    dependencies with_;
    std::unordered_map<handle_type, std::unique_ptr<info_visitor>> visitors_;
    stranger_ledger strangers_;
    deadline_queue<handle_type> deadlines_;
    bool armed_ = false;
    /// That nobody can be let in has been logged; once until descriptors are left again.
    bool pause_told_ = false;
    /// Refusals are logged once a second at most.
    time_point refusals_from_;
    std::size_t refusals_untold_ = 0;
};

caf::actor spawn_info_listener(caf::actor_system&, info_listener_state::dependencies);

} // namespace kvferry
