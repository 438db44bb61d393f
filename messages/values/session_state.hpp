// SPDX-License-Identifier: Apache-2.0
// The two halves of a session's state: its outcome, and what its writers may still touch.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <string>

namespace kvferry {

/// Outcome of a session. States never go back; error and cancelled are final, and so is
/// kv_transferred when no aux is required, fully_transferred when it is.
enum class session_state : std::uint8_t {
    init = 0,
    ready = 1,
    transferring = 2,
    kv_transferred = 3,
    fully_transferred = 4,
    error = 5,
    cancelled = 6,
};

/// What one writer may still do to one session's pages.
enum class exposure : std::uint8_t {
    /// It was never told where the pages are.
    unexposed = 0,
    /// It may be writing.
    exposed = 1,
    /// Proven: it never writes there again.
    quiet = 2,
    /// It failed in a way that proves nothing; only later evidence resolves it.
    in_doubt = 3,
};

/// The outcome of a session that ends for this reason: `cancelled` when it was cancelled, else
/// `error`.
inline session_state outcome_of(const caf::error& reason) {
    return code_of(reason) == errc::cancelled ? session_state::cancelled : session_state::error;
}

std::string to_string(session_state);
std::string to_string(exposure);

} // namespace kvferry
