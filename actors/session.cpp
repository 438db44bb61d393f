// SPDX-License-Identifier: Apache-2.0
// Handles turn a host's calls into messages to the session's gate.
#include "actors/session.hpp"

#include "messages/handle.hpp"

#include <caf/scoped_actor.hpp>

#include <utility>

namespace kvferry {

caf::error piece_handle::get() {
    try {
        return future_.get().error;
    } catch (const std::future_error&) { // said to a session that was over
        return make_error(errc::gone, "the session has ended");
    }
}

session_handle::session_handle(caf::actor_system& system, rid request, session_gate_actor gate,
                               const std::shared_ptr<session_promises>& promises)
    : system_(&system),
      request_(request),
      gate_(std::move(gate)),
      outcome_(promises->outcome.get_future().share()),
      released_(promises->released.get_future().share()) {}

void session_handle::cancel(std::string why) const {
    tell_from_outside(gate_, cancel_request{make_error(errc::cancelled, std::move(why))});
}

caf::expected<session_status> session_handle::status() const {
    caf::scoped_actor self{*system_};
    caf::expected<session_status> result{caf::error{}};
    self->request(gate_, limits{}.info_deadline, query_status{})
        .receive([&](session_status& status) { result = std::move(status); },
                 [&](caf::error& reason) {
                     result = make_error(errc::gone, "rid " + to_string(request_) + " has no live session: "
                                                         + caf::to_string(reason));
                 });
    return result;
}

piece_handle session_handle::start(const std::function<void(piece_promise)>& tell_gate) const {
    auto promise = std::make_shared<std::promise<piece_finished>>();
    piece_handle result{promise->get_future()};
    tell_gate(std::move(promise));
    return result;
}

piece_handle tx_handle::send(kv_slice slice, device_events events) const {
    return start([&](piece_promise done) {
        tell_from_outside(gate_, host_send{std::move(slice), events, std::move(done)});
    });
}

piece_handle tx_handle::send_aux(aux_record record) const {
    return start([&](piece_promise done) {
        tell_from_outside(gate_, host_send_aux{std::move(record), std::move(done)});
    });
}

piece_handle rx_handle::receive(kv_slice slice) const {
    return start([&](piece_promise done) {
        tell_from_outside(gate_, host_receive{std::move(slice), std::move(done)});
    });
}

} // namespace kvferry
