// SPDX-License-Identifier: Apache-2.0
// Stands between a receiving session and the tx_session that hands on to siblings what it receives:
// opens that session, gives it what comes, says when nothing of it moves any more.
#pragma once

#include "messages/local/outcomes.hpp"
#include "messages/local/sessions.hpp"

#include <variant>
#include <vector>

namespace kvferry {

struct relay_state {
    static inline constexpr const char* name = "relay";

    struct dependencies {
        /// Has it siblings' requests, and opens sessions for them.
        sender_actor sender;
        rx_session_actor receives;
        /// As the session is to be opened; the observer is this actor.
        open_tx terms;
    };

    relay_state(relay_actor::pointer self, dependencies);

    relay_actor::behavior_type make_behavior();

private:
    using message = std::variant<send_slice, send_aux, extend_session, cancel_request>;

    void on_piece(const piece_finished&) {}
    void on_ready(const session_ready&) {}
    void on_layers(const layers_arrived&) {}
    void on_finished(const session_finished&) {}
    void on_released(const session_released&);
    void on_slice(send_slice&);
    void on_aux(send_aux&);
    void on_extend(const extend_session&);
    void on_cancel(const cancel_request&);
    void open();
    void pass_on(message);
    void over();

    relay_actor::pointer self_;
    dependencies with_;
    /// The session has been asked for.
    bool asked_ = false;
    /// Null until it is open; what comes before waits.
    tx_session_actor session_;
    std::vector<message> waiting_;
};

} // namespace kvferry
