// SPDX-License-Identifier: Apache-2.0
// Which calls a host may not make in callbacks that run on its rank's own thread
// (session_options::quick_callbacks).
#pragma once

#include "messages/errors.hpp"

namespace kvferry {

inline constinit thread_local bool in_quick_callback = false;

/// unsupported in such a callback: a call that waits for the rank would wait for itself.
inline caf::error check_may_wait() {
    if (!in_quick_callback)
        return {};
    return make_error(errc::unsupported,
                      "this call waits for the rank, and a quick callback runs on the rank's "
                      "thread: make it elsewhere");
}

} // namespace kvferry
