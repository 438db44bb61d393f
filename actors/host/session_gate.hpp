// SPDX-License-Identifier: Apache-2.0
// The rank's end of a session handle: everything that a host says to a session goes through here,
// and everything that it hears comes from here. Lives on the rank's home; the only host code that
// it runs are callbacks that the host has said to be quick.
#pragma once

#include "actors/shared/session_openers.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/host.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/promised.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <variant>
#include <vector>

namespace kvferry {

/// What a host handle waits on; told once each.
struct session_promises {
    promised<session_finished> outcome;
    promised<session_released> released;
};

struct session_gate_state {
    static inline constexpr const char* name = "session_gate";

    struct dependencies {
        transfer_worker_actor worker;
        /// Has it run on a thread of the host's.
        std::function<void(run_callback)> callbacks;
        side role = side::context;
        rid request;
        std::shared_ptr<session_promises> promises;
        std::function<void(const session_finished&)> on_outcome;
        std::function<void(const session_released&)> on_released;
        std::function<void(const session_ready&)> on_ready = {};
        /// Place of the call that opens the session; freed when that call is handled.
        host_call_place place = {};
        std::function<void(const piece_finished&)> on_piece = {};
        /// Looks at the events of received slices; null: the rank has no device.
        device_actor device = {};
        std::function<void(const layers_arrived&)> on_layers = {};
        /// They run here and now (session_options::quick_callbacks).
        bool quick_callbacks = false;
        /// Asked ahead of the worker.
        std::shared_ptr<const session_openers> openers = std::make_shared<session_openers>();
    };

    session_gate_state(session_gate_actor::pointer self, dependencies);
    ~session_gate_state();

    session_gate_actor::behavior_type make_behavior();

private:
    /// What the host said before the session was open.
    using command =
        std::variant<send_slice, send_aux, receive_slice, extend_session, cancel_request>;

    void on_open_tx(open_tx&);
    void on_open_rx(open_rx&);
    void on_send(host_send&);
    void on_send_aux(host_send_aux&);
    void on_receive(host_receive&);
    void on_cancel(cancel_request&);
    void on_extend(const extend_session&);
    caf::result<slots_on_loan> on_slots(const query_slots&);
    caf::result<session_status> on_status(const query_status&);
    void on_piece(const piece_finished&);
    void on_ready(const session_ready&);
    void on_layers(const layers_arrived&);
    void on_finished(session_finished&);
    void on_released(const session_released&);
    void on_down(const caf::down_msg&);
    session_status waiting_for(const session_wait&) const;
    session_status last_status() const;
    template <class Opened, class Opener, class Session, class Message>
    void ask_to_open(const Opener&, Session&, Message&);
    void opened();
    void open_failed(const caf::error&);
    void pass_on(command);
    std::vector<std::set<std::int32_t>> not_passed_on() const;
    void piece_ended(piece_promise&, const piece_finished&);
    void hand_on_receives();
    void event_answered(const caf::error&);
    void tell_released();
    void add_kv_piece(piece_promise);
    void fail_pieces(const caf::error&);
    void finish(const caf::error& reason);
    template <class News>
    void call_back(const std::function<void(const News&)>&, const News&);

    session_gate_actor::pointer self_;
    dependencies with_;
    tx_session_actor tx_;
    rx_session_actor rx_;
    bool open_ = false;
    recycled_vector<command> waiting_;
    /// Slices whose own event, or the one of a slice before them, has not happened yet.
    recycled_vector<host_receive> receives_;
    /// Held while the device is asked about an event.
    std::shared_ptr<const void> event_wanted_;
    bool event_asked_ = false;
    recycled_vector<piece_promise> kv_pieces_;
    piece_promise aux_piece_;
    bool outcome_told_ = false;
    /// Told to the host once no event of its is looked at any more.
    std::optional<session_released> release_;
    bool release_told_ = false;
};

} // namespace kvferry
