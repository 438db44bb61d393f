// SPDX-License-Identifier: Apache-2.0
// What a relay passes on, and how it ends. If the receiving session dies, its siblings get nothing
// more.
#include "actors/generation/relay.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

relay_state::relay_state(relay_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {
    self_->set_down_handler([this](const caf::down_msg&) {
        with_.receives = rx_session_actor{};
        pass_on(cancel_request{
            make_error(errc::handler_failed, "rid {}: its rx_session died", with_.terms.request)});
    });
    self_->monitor(with_.receives);
}

relay_actor::behavior_type relay_state::make_behavior() {
    open();
    return {
        handle(this, &relay_state::on_piece),    handle(this, &relay_state::on_ready),
        handle(this, &relay_state::on_layers),   handle(this, &relay_state::on_finished),
        handle(this, &relay_state::on_released), handle(this, &relay_state::on_slice),
        handle(this, &relay_state::on_aux),      handle(this, &relay_state::on_extend),
        handle(this, &relay_state::on_cancel),
    };
}

/// By the first of what it hears: CAF, or a neighbour.
void relay_state::open() {
    if (std::exchange(asked_, true))
        return;
    with_.terms.observer = observer_actor{relay_actor{self_}};
    ask(self_, with_.sender, std::move(with_.terms))
        .then(
            [this](const tx_opened& opened) {
                session_ = opened.session;
                for (auto& each : std::exchange(waiting_, {}))
                    pass_on(std::move(each));
            },
            [this](const caf::error&) { over(); }); // siblings ask the context itself
}

void relay_state::pass_on(message message) {
    open();
    if (session_)
        std::visit([this](auto& x) { tell(self_, session_, std::move(x)); }, message);
    else
        waiting_.push_back(std::move(message));
}

void relay_state::on_slice(send_slice& message) {
    pass_on(std::move(message));
}

void relay_state::on_aux(send_aux& message) {
    pass_on(std::move(message));
}

void relay_state::on_extend(const extend_session& message) {
    pass_on(message);
}

void relay_state::on_cancel(const cancel_request& message) {
    pass_on(message);
}

void relay_state::on_released(const session_released&) {
    over();
}

void relay_state::over() {
    if (with_.receives)
        tell(self_, with_.receives, relay_over{});
    self_->quit();
}

} // namespace kvferry
