// SPDX-License-Identifier: Apache-2.0
// Which ranks of an instance need the same bytes, so that one of them can receive the bytes and
// hand them on: pure functions, so that all of them compute the same answer without a word.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// Whether all that the one holds of a request is all that the other needs of it: their caches
/// differ in replica, regions and numbers of slots alone. Not of caches with recurrent state, which
/// its owner changes in place as soon as it decodes.
bool are_replicas(const rank_info&, const rank_info&);

/// The ranks that share one copy with `self`, itself included, ascending; empty when it asks for
/// itself. They are replicas of one DP group on one machine, all ranks of the context are
/// elsewhere, and all can do it (capability::relays, capability::relayed_requests).
std::vector<rank_id> relay_group_of(const rank_info& self, const std::vector<rank_info>& own,
                                    const std::vector<rank_info>& context);

/// The one of them at which the bytes of this request arrive: another one for the next request, so
/// that all carry as much. `group` must not be empty.
rank_id landing_rank(const std::vector<rank_id>& group, rid);

/// Says which processes the bytes come from: replicas that know another context than the rank that
/// hands on are refused. Never 0.
std::uint64_t relay_digest(const std::vector<rank_info>& context);

/// What a plan from `holder` to its replica reads: the holder's memory at the replica's place.
rank_info in_place_of(const rank_info& replica, const rank_info& holder);

} // namespace kvferry
