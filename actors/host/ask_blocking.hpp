// SPDX-License-Identifier: Apache-2.0
// Asks an actor from a host's thread and blocks; only the host's facade may do that.
#pragma once

#include "actors/host/host_actor.hpp"
#include "messages/errors.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <chrono>
#include <utility>

namespace kvferry {

/// CAF says "request_timeout", or what became of the other actor; the host hears of neither.
inline caf::error in_our_words(caf::error reason, std::chrono::milliseconds deadline) {
    if (!reason || reason.category() == caf::type_id_v<errc>)
        return reason;
    const auto code = code_of(reason);
    if (code == errc::deadline_exceeded)
        return make_error(code, "no answer within {} ms", deadline.count());
    if (code == errc::stopped)
        return make_error(code, "who was asked has ended");
    return reason;
}

/// Asks and waits, at most `deadline`.
template <class Reply, class Handle, class Message>
caf::expected<Reply> ask_blocking(caf::actor_system& system, const Handle& to, Message message,
                                  std::chrono::milliseconds deadline) {
    host_actor self{system, true};
    caf::expected<Reply> result{make_error(errc::stopped, "no answer")};
    self->request(to, deadline, std::move(message))
        .receive([&](Reply& reply) { result = std::move(reply); },
                 [&](caf::error& reason) { result = in_our_words(std::move(reason), deadline); });
    return result;
}

/// The same for a question whose answer carries no value.
template <class Handle, class Message>
caf::error ask_blocking_for_success(caf::actor_system& system, const Handle& to, Message message,
                                    std::chrono::milliseconds deadline) {
    host_actor self{system, true};
    caf::error result;
    self->request(to, deadline, std::move(message))
        .receive([] {},
                 [&](caf::error& reason) { result = in_our_words(std::move(reason), deadline); });
    return result;
}

} // namespace kvferry
