// SPDX-License-Identifier: Apache-2.0
// The third way of a question: who is asked has another actor answer.
#pragma once

#include "messages/trace/handle.hpp"

#include <caf/delegated.hpp>

#include <utility>

namespace kvferry {

/// Hands the question that actor `self` is handling on to `to`, which answers the asker itself: no
/// answer passes through here. To be returned by the handler.
template <class Self, class Handle, class Message>
auto pass_on(Self* self, const Handle& to, Message message) {
    decltype(self->delegate(to, std::move(message))) elsewhere{};
    detail::record_sending(
        detail::about(message), self->name(), self->id(), trace::instant::sent, [&] {
            auto way_back = [] { return std::move(running_errand->way_back); };
            const auto asked_by_neighbour = running_errand && running_errand->way_back;
            if (!asked_by_neighbour || !to || !hand_over(to, message, way_back))
                self->delegate(to, std::move(message));
            return std::uint64_t{0};
        });
    return elsewhere;
}

} // namespace kvferry
