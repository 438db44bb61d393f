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

/// The same of these views alone; empty: of all that they hold.
bool are_replicas(const rank_info&, const rank_info&, const std::vector<view_place>&);

/// What some ranks of an instance need alike.
struct shared_views {
    /// At least two, ascending.
    std::vector<rank_id> ranks;
    /// Of the page table of each of them; empty: all that they hold.
    std::vector<view_place> views;

    bool concerns(rank_id) const;
    friend bool operator==(const shared_views&, const shared_views&) = default;
};

/// What ranks of this one's DP group and machine share, each set of ranks once; empty when each
/// asks for itself. All ranks of the context are elsewhere, and all can do it (capability::relays,
/// capability::relayed_requests); without capability::parts on each of them only ranks that share
/// all that they hold.
std::vector<shared_views> shared_among(const rank_info& self, const std::vector<rank_info>& own,
                                       const std::vector<rank_info>& context);

/// Those of its views that are in none of these.
std::vector<view_place> views_outside(const rank_info&, const std::vector<shared_views>&);

/// The one of them at which the bytes of this request arrive: another one for the next request, so
/// that all carry as much. `group` must not be empty.
rank_id landing_rank(const std::vector<rank_id>& group, rid);

/// The same of one part: parts of one request land apart from each other.
rank_id landing_rank(const shared_views&, rid);

/// Says which processes the bytes come from: replicas that know another context than the rank that
/// hands on are refused. Never 0.
std::uint64_t relay_digest(const std::vector<rank_info>& context);

/// The rank as if it had these views alone; empty: as it is. Its layer groups keep their numbers.
rank_info with_views(const rank_info&, const std::vector<view_place>&);

/// What a plan of these views from `holder` to its replica reads: the holder's memory at the
/// replica's place.
rank_info in_place_of(const rank_info& replica, const rank_info& holder,
                      const std::vector<view_place>& = {});

} // namespace kvferry
