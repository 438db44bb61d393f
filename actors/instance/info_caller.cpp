// SPDX-License-Identifier: Apache-2.0
// Carries a question on its own thread.
#include "actors/instance/info_caller.hpp"

#include "actors/instance/info_question.hpp"
#include "messages/trace/handle.hpp"

#include <caf/stateful_actor.hpp>

#include <chrono>

namespace kvferry {

info_caller_state::info_caller_state(info_caller_actor::pointer, dependencies with)
    : with_(std::move(with)) {}

info_caller_actor::behavior_type info_caller_state::make_behavior() {
    return {handle(this, &info_caller_state::on_call)};
}

caf::result<info_frame> info_caller_state::on_call(const call_info_server& message) {
    auto frame = ask_over_tcp(message, *with_.security, with_.bounds, std::chrono::seconds{1},
                              with_.hang_up->get());
    if (!frame)
        return std::move(frame.error());
    return info_frame{std::move(*frame)};
}

info_caller_actor spawn_info_caller(caf::actor_system& system,
                                    info_caller_state::dependencies with) {
    return system
        .spawn<caf::stateful_actor<info_caller_state, info_caller_actor::impl>, caf::detached>(
            std::move(with));
}

} // namespace kvferry
