// SPDX-License-Identifier: Apache-2.0
// The error for opening an endpoint to a process that has ended (drain_fabric).
#pragma once

#include "messages/errors.hpp"
#include "messages/values/ids.hpp"

namespace kvferry {

inline caf::error peer_is_gone(incarnation peer) {
    return make_error(errc::peer_gone, "incarnation " + to_string(peer)
                                           + ": its process has ended; ask its instance again who "
                                             "its ranks are");
}

} // namespace kvferry
