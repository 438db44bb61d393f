// SPDX-License-Identifier: Apache-2.0
// Where peers come in. A connection is nobody's until its hello is right; those that wait for that
// are few, small, and end soon.
#pragma once

#include "transport/secure/stranger_ledger.hpp"
#include "transport/tcp/tcp_context.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace kvferry {

class tcp_door final : private socket_poll::watcher {
public:
    /// Listens. system_call_failed: with the call and the address.
    static caf::expected<std::unique_ptr<tcp_door>> make(tcp_context&);
    tcp_door(const tcp_door&) = delete;
    ~tcp_door();

    std::uint16_t port() const;
    /// To be called when no guest runs.
    void let_go();

    /// The way back to a peer that has come in and hears on its connection: for what a connection
    /// of this side has to say before it is welcomed itself. Of one peer's guests one lends its
    /// way, to one connection, which it tells of tags and of its own end. Null outbox: there is
    /// none, or it is being closed.
    tcp_way way_back(incarnation peer, endpoint_id to);
    /// The way that is lent to a connection, as long as there is one: to ask what has become of
    /// what was said there.
    tcp_way way_lent_to(endpoint_id);
    /// That connection has ended. The guests that its peer has now are not lent any more: their
    /// link is over. One that still holds memory of it ends, too; returns the tags.
    std::vector<std::uint64_t> give_back(endpoint_id from, incarnation peer);

private:
    class guest;
    friend class guest;

    tcp_door(tcp_context&, unique_fd);

    void ready(std::uint32_t events) override;
    void let_in(unique_fd);
    void rest(std::chrono::milliseconds);
    void look_for_late_ones();
    /// With the reason, or without when it went by itself.
    void send_away(std::uint64_t guest, const caf::error& why);
    void note(const guest&, const caf::error& why);

    tcp_context& with_;
    unique_fd fd_;
    socket_poll::registration registration_;
    std::map<std::uint64_t, std::unique_ptr<guest>> guests_;
    /// Of guests_: they have not said hello; by number, the oldest first.
    std::map<std::uint64_t, std::chrono::steady_clock::time_point> strangers_;
    stranger_ledger by_address_;
    /// Let go of when nothing of them runs.
    std::vector<std::unique_ptr<guest>> leaving_;
    std::uint64_t last_guest_ = 0;
    std::uint64_t sent_away_ = 0;
    bool looking_ = false;
    /// Timers outlive it.
    const std::shared_ptr<tcp_door*> self_ = std::make_shared<tcp_door*>(this);
};

} // namespace kvferry
