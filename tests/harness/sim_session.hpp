// SPDX-License-Identifier: Apache-2.0
// One session as its host sees it: opens it, hands over its pieces, and checks that every message
// to the host comes once, in order, in time, and is true.
#pragma once

#include "messages/local/outcomes.hpp"
#include "tests/harness/network/doorbell.hpp"
#include "tests/harness/scenarios/scenario.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::harness {

class simulation;
struct sim_process;

/// The messages of a session_host: those of an observer, and a doorbell.
using session_host_actor = observer_actor::extend<caf::result<void>(deadline_tick)>;

struct sim_session {
    simulation* world = nullptr;
    sim_process* process = nullptr;
    side role = side::context;
    std::uint32_t rank = 0;
    const planned_request* plan = nullptr;
    doorbell bell;

    time_point opened_at;
    time_point deadline_at;
    /// Why the worker refused to open it.
    caf::error refused;
    bool open = false;
    time_point open_at;
    kvferry::attempt attempt;
    tx_session_actor tx;
    rx_session_actor rx;

    /// Slots of each piece that was handed over; empty once they are back.
    std::vector<std::vector<std::int32_t>> slots;
    std::vector<bool> piece_told;
    /// Set once it is open, for a host that was recorded: hands over the next piece, or the aux
    /// record.
    std::function<void()> next_piece;
    std::function<void()> aux_piece;
    bool ready_told = false;
    std::uint32_t layers_end = 0;
    bool aux_handed = false;
    bool aux_told = false;
    bool too_much_sent = false;
    std::optional<session_finished> outcome;
    time_point finished_at;
    /// Its actor has died.
    bool died = false;
    bool released = false;

    const std::vector<std::uint32_t>& blocks() const {
        return role == side::context ? plan->send_blocks : plan->receive_blocks;
    }
    bool succeeded() const { return outcome && outcome->state < session_state::error; }
    caf::actor_id actor() const { return tx ? tx.id() : rx ? rx.id() : 0; }
    std::string name() const;
};

class session_host_state {
public:
    static inline constexpr const char* name = "session_host";

    session_host_state(session_host_actor::pointer self, sim_session* session);

    session_host_actor::behavior_type make_behavior();

private:
    void on_piece(const piece_finished&);
    void on_ready(const session_ready&);
    void on_layers(const layers_arrived&);
    void on_finished(const session_finished&);
    void on_released(const session_released&);
    void on_tick(const deadline_tick&);

    void open_now();
    void opened();
    void hand_over(std::size_t index);
    void hand_over_aux();
    void later(microseconds, std::function<void()>);
    kv_slice slice_of(std::size_t index) const;
    std::uint32_t first_block(std::size_t index) const;
    /// Compares what arrived in this piece with what was sent. Empty when equal.
    std::string check_bytes(std::size_t index);

    session_host_actor::pointer self_;
    sim_session* session_;
    /// Numbers of the contents that the bytes arrived so far may belong to.
    std::vector<std::uint64_t> contents_;
};

} // namespace kvferry::harness
