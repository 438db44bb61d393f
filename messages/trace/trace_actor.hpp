// SPDX-License-Identifier: Apache-2.0
// Which actor runs on this thread and what it just sent: how events get their ids.
#pragma once

#include <caf/fwd.hpp>
#include <caf/local_actor.hpp>
#include <caf/mailbox_element.hpp>

namespace kvferry::trace {

/// Set while a resident actor runs; null for actors without a home, whose events have no ids.
inline constinit thread_local const caf::local_actor* running_actor = nullptr;

/// The last mail that this thread put into a resident's mailbox. Its address identifies it until it
/// has been handled.
struct delivery {
    const caf::mailbox_element* mail = nullptr;
    caf::actor_id to = 0;
};
inline constinit thread_local delivery last_delivery{};

} // namespace kvferry::trace
