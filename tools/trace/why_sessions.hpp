// SPDX-License-Identifier: Apache-2.0
// What sessions that were asked say they wait for, and which of it is nearest to the cause.
#pragma once

#include "tools/trace/why.hpp"

#include <cstdint>
#include <utility>
#include <vector>

namespace kvferry::tracing {

/// Smaller: nearer to the cause.
enum class order {
    silence,   ///< nobody can act there
    operation, ///< bytes move
    handler,   ///< somebody is at it
    mailbox,   ///< somebody will be
    outside,   ///< everything inside is done
    answer,
    wire,
    session, ///< waits for one of the others
    outcome,
    release
};

using ordered_wait = std::pair<order, wait>;

/// One per wait of a session. Who waits for a session elsewhere waits for that one's waits; a
/// process that is silent, and a rank that knows no session, end the chain.
std::vector<ordered_wait> waits_said(const flow&, std::uint64_t rid,
                                     const std::vector<silent_process>& silent);

} // namespace kvferry::tracing
