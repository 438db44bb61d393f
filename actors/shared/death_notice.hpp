// SPDX-License-Identifier: Apache-2.0
// The news of a death that an actor leaves behind: what CAF's monitors are for, without a lock and
// memory for each of those who hear it. For actors whose end is told in another way, as a rule.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_cast.hpp>
#include <caf/exit_reason.hpp>
#include <caf/local_actor.hpp>
#include <caf/send.hpp>
#include <caf/system_messages.hpp>

#include <utility>

namespace kvferry {

/// Called as the State of `dying` ends; `whom` gets what a monitor of it would.
template <class Handle>
void tell_of_death(const caf::local_actor& dying, const Handle& whom) {
    if (!whom)
        return;
    auto reason = dying.fail_state();
    if (!reason)
        reason = caf::exit_reason::unreachable;
    caf::anon_send(caf::actor_cast<caf::actor>(whom),
                   caf::down_msg{dying.address(), std::move(reason)});
}

} // namespace kvferry
