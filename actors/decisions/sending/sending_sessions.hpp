// SPDX-License-Identifier: Apache-2.0
// The sending sessions of a rank.
#pragma once

#include "actors/decisions/sending/sending_memory.hpp"
#include "actors/decisions/session_table.hpp"
#include "messages/interfaces.hpp"

namespace kvferry {

struct sending_session {
    tx_session_actor actor;
    observer_actor observer;
    sending_requests asked;
};

/// Dead ones do not hold up a stop: their pages stay on loan until the process ends.
using sending_sessions = session_table<rid, sending_session>;

} // namespace kvferry
