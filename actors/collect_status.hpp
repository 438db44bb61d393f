// SPDX-License-Identifier: Apache-2.0
// Asks every session of a table for its status and answers with all of them.
#pragma once

#include "messages/handle.hpp"

#include <caf/policy/select_all.hpp>

#include <vector>

namespace kvferry {

/// Answers the message that is being handled once every session has answered. A session that
/// ends meanwhile makes the answer empty rather than late: ask again.
template <class Self, class Table>
caf::result<session_list> collect_status(Self* self, const Table& sessions) {
    if (sessions.empty())
        return session_list{};
    using session_actor = typename Table::mapped_type;
    std::vector<session_actor> asked;
    for (const auto& entry : sessions)
        asked.push_back(entry.second);
    auto promise = self->template make_response_promise<session_list>();
    self->template fan_out_request<caf::policy::select_all>(asked, caf::infinite, query_status{})
        .then([promise](std::vector<session_status> all) mutable { promise.deliver(session_list{std::move(all)}); },
              [promise](caf::error&) mutable { promise.deliver(session_list{}); });
    return promise;
}

} // namespace kvferry
