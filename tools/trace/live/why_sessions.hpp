// SPDX-License-Identifier: Apache-2.0
// What sessions say they wait for, and which of these waits is nearest to the cause.
#pragma once

#include "tools/trace/live/why.hpp"

#include <cstdint>
#include <utility>
#include <vector>

namespace kvferry::tracing {

/// Messages that bring a request no further: questions, this program's among them, and reminders.
inline bool says_nothing_new(std::string_view message) {
    return message == "query_status" || message == "list_sessions" || message == "query_slots"
           || message == "renew_requests" || message == "keep_session"
           || message == "session_wanted";
}

/// A smaller value is nearer to the cause.
enum class order {
    silence,   ///< a process that cannot act now
    operation, ///< bytes move
    handler,   ///< an actor handles it now
    mailbox,   ///< an actor will handle it
    outside,   ///< nothing inside waits: a host or peer must act
    answer,
    wire,
    session, ///< waits for another session's waits
    outcome,
    release
};

using ordered_wait = std::pair<order, wait>;

/// One entry per wait of a session. A session that waits for another session waits for that one's
/// waits. The chain ends at a silent process, or at a rank that has no such session.
std::vector<ordered_wait> waits_said(const flow&, std::uint64_t rid,
                                     const std::vector<silent_process>& silent);

} // namespace kvferry::tracing
