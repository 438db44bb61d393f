// SPDX-License-Identifier: Apache-2.0
// Asks every session of a table for its status and answers with all of them.
#pragma once

#include "messages/local/status.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/session_state.hpp"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

namespace kvferry {

/// The keys of at most `most` sessions of a table: those that end next, then those without an end.
template <class Table, class Deadlines>
auto next_to_end(const Table& sessions, const Deadlines& deadlines, std::size_t most) {
    auto result = deadlines.first(std::min(most, sessions.size()));
    for (const auto& [key, session] : sessions) {
        if (result.size() >= most || result.size() >= sessions.size())
            break;
        if (!deadlines.of(key))
            result.push_back(key);
    }
    return result;
}

/// Answers the message that is being handled with `known` and the status of every session for which
/// `wanted(key, session)` holds, once each has answered or is gone. Those that end meanwhile are
/// left out. Adds the deadlines, which only the table knows, by its key; and what `also` answers,
/// unless it is null.
template <class Self, class Table, class Deadlines, class Wanted>
caf::result<session_list> collect_status(Self* self, const Table& sessions,
                                         const Deadlines& deadlines, Wanted wanted,
                                         session_list known = {}, const sender_actor& also = {},
                                         const list_sessions& question = {}) {
    auto promise = self->template make_response_promise<session_list>();
    auto collected = std::make_shared<std::pair<session_list, std::size_t>>(std::move(known), 1);
    auto answered = [promise, collected]() mutable {
        if (--collected->second == 0)
            promise.deliver(std::move(collected->first));
    };
    const auto look_at = [&](const auto& key, const auto& session) {
        if (!wanted(key, session))
            return;
        ++collected->second;
        ask(self, session.actor, query_status{})
            .then(
                [answered, collected, deadline = deadlines.of(key),
                 opened_at = session.opened_at](session_status& status) mutable {
                    if (status.state < session_state::error) // else it only waits for its release
                        status.deadline = deadline;
                    status.opened_at = opened_at;
                    collected->first.sessions.push_back(std::move(status));
                    answered();
                },
                [answered](const caf::error&) mutable { answered(); });
    };
    if (question.most < sessions.size()) {
        for (const auto& key : next_to_end(sessions, deadlines, question.most))
            look_at(key, *sessions.find(key));
    } else {
        for (const auto& [key, session] : sessions)
            look_at(key, session);
    }
    if (also) {
        ++collected->second;
        ask(self, also, question)
            .then(
                [answered, collected](session_list& more) mutable {
                    auto& all = collected->first;
                    std::move(more.sessions.begin(), more.sessions.end(),
                              std::back_inserter(all.sessions));
                    std::move(more.unopened.begin(), more.unopened.end(),
                              std::back_inserter(all.unopened));
                    answered();
                },
                [answered](const caf::error&) mutable { answered(); });
    }
    answered();
    return promise;
}

} // namespace kvferry
