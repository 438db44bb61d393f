// SPDX-License-Identifier: Apache-2.0
// Whether a rank can serve what a receiver asks of it. Pure, but for the plans that it caches.
#pragma once

#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/planner/plan/plan_cache.hpp"

#include <memory>
#include <vector>

namespace kvferry {

/// What is needed to plan for it, or why it is refused; `peer` has only the views that it asks for.
/// Both sides must compute the same cohorts: otherwise one waits for what the other never sends.
/// `aux` is that of the sending session; `held`: plan_cache::find_or_make.
caf::expected<std::shared_ptr<const pair_layout>>
check_request(const request_data&, const rank_info& self, const rank_info& peer, aux_mode aux,
              const limits& bounds, plan_cache& plans,
              const std::shared_ptr<const void>& held = {});

/// Empty when the views that it asks for are there.
caf::error check_views(const request_data&, const rank_info& peer);

/// Empty when this rank may hand on to that one what it receives from the context that `relay_of`
/// names. `landing` are the views of which it does; empty: all.
caf::error check_relay(const request_data&, const rank_info& self, const rank_info& peer,
                       std::uint64_t relay_of, const std::vector<view_place>& landing);

} // namespace kvferry
