// SPDX-License-Identifier: Apache-2.0
// Asks an actor from a host's thread and blocks; only the host's facade may do that.
#pragma once

#include "actors/host/host_actor.hpp"
#include "messages/errors.hpp"
#include "messages/type_ids.hpp"

#include <chrono>
#include <utility>

namespace kvferry {

/// Asks and waits, at most `deadline`.
template <class Reply, class Handle, class Message>
caf::expected<Reply> ask_blocking(caf::actor_system& system, const Handle& to, Message message,
                                  std::chrono::milliseconds deadline) {
    host_actor self{system, true};
    caf::expected<Reply> result{make_error(errc::stopped, "no answer")};
    self->request(to, deadline, std::move(message))
        .receive([&](Reply& reply) { result = std::move(reply); },
                 [&](caf::error& reason) { result = std::move(reason); });
    return result;
}

/// The same for a question whose answer carries no value.
template <class Handle, class Message>
caf::error ask_blocking_for_success(caf::actor_system& system, const Handle& to, Message message,
                                    std::chrono::milliseconds deadline) {
    host_actor self{system, true};
    caf::error result;
    self->request(to, deadline, std::move(message))
        .receive([] {}, [&](caf::error& reason) { result = std::move(reason); });
    return result;
}

} // namespace kvferry
