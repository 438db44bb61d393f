// SPDX-License-Identifier: Apache-2.0
// The third way of a question: who is asked has another actor answer.
#pragma once

#include "messages/trace/handle.hpp"

#include <caf/delegated.hpp>

#include <optional>
#include <utility>

namespace kvferry {

/// Hands the question that actor `self` is handling on to `to`, which answers the asker itself: no
/// answer passes through here. To be returned by the handler.
template <class Self, class Handle, class Message>
auto pass_on(Self* self, const Handle& to, Message message) {
    std::optional<decltype(self->delegate(to, std::move(message)))> result;
    detail::record_sending(detail::about(message), self->name(), self->id(), trace::instant::sent,
                           [&] {
                               result.emplace(self->delegate(to, std::move(message)));
                               return std::uint64_t{0};
                           });
    return *result;
}

} // namespace kvferry
