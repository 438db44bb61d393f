// SPDX-License-Identifier: Apache-2.0
// Who opens a rank's sessions, for whoever asks for many: each saves the way by the transfer
// worker.
#pragma once

#include "messages/interfaces.hpp"

#include <caf/typed_actor.hpp>

#include <memory>

namespace kvferry {

/// Both while the rank opens sessions; otherwise neither, and its transfer worker says why. Written
/// and read on the rank's home.
struct session_openers {
    sender_actor sender;
    receiver_actor receiver;
};

using session_openers_ptr = std::shared_ptr<session_openers>;

} // namespace kvferry
