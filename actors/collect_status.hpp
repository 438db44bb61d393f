// SPDX-License-Identifier: Apache-2.0
// Asks every session of a table for its status and answers with all of them.
#pragma once

#include "messages/handle.hpp"
#include "messages/local_messages.hpp"

#include <memory>
#include <utility>

namespace kvferry {

/// Answers the message that is being handled once every session has answered or is gone. Those
/// that end meanwhile are left out.
template <class Self, class Table>
caf::result<session_list> collect_status(Self* self, const Table& sessions) {
    if (sessions.empty())
        return session_list{};
    auto promise = self->template make_response_promise<session_list>();
    auto collected =
        std::make_shared<std::pair<session_list, std::size_t>>(session_list{}, sessions.size());
    auto answered = [promise, collected]() mutable {
        if (--collected->second == 0)
            promise.deliver(std::move(collected->first));
    };
    for (const auto& entry : sessions)
        ask(self, entry.second.actor, query_status{})
            .then(
                [answered, collected](session_status& status) mutable {
                    collected->first.sessions.push_back(std::move(status));
                    answered();
                },
                [answered](const caf::error&) mutable { answered(); });
    return promise;
}

} // namespace kvferry
