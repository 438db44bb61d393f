// SPDX-License-Identifier: Apache-2.0
// Which siblings bring what to whom, and what of the context's ranks is left to ask at once.
#include "actors/decisions/receiving/transfer_parties.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

namespace kvferry {

namespace {

/// Views of this rank, and the context ranks that have something of them.
struct share {
    std::set<view_place> views;
    std::set<rank_id> brought_by;
    /// All that the rank holds.
    bool whole = false;

    void add(const std::vector<view_place>& more, const std::vector<rank_id>& writers) {
        views.insert(more.begin(), more.end());
        brought_by.insert(writers.begin(), writers.end());
    }
    void add(const transfer_parties::shared_part& part) {
        whole = whole || part.what.views.empty();
        add(part.what.views, part.brought_by);
    }
    bool empty() const { return views.empty() && !whole; }
    std::vector<view_place> list() const {
        return whole ? std::vector<view_place>{}
                     : std::vector<view_place>{views.begin(), views.end()};
    }
};

/// Who takes something that lands there.
std::vector<rank_id> takers_of(rank_id landing, const transfer_parties& parties, rid request) {
    std::set<rank_id> result;
    for (const auto& part : parties.shared)
        if (landing_rank(part.what, request) == landing)
            result.insert(part.what.ranks.begin(), part.what.ranks.end());
    result.erase(landing);
    return {result.begin(), result.end()};
}

/// The lowest global id of a layer in these views.
std::uint32_t first_layer_of(const rank_info& rank) {
    auto result = std::numeric_limits<std::uint32_t>::max();
    for (const auto& group : rank.pages->groups)
        for (const auto& view : group.views)
            for (const auto& entry : view.entries)
                result = std::min(result, group.layers[entry.local_layer]);
    return result;
}

writer_binding sibling_at(const rank_info& holder, const share& what, std::uint32_t dp_rank) {
    writer_binding result;
    result.rank = holder.rank;
    result.incarnation = holder.incarnation;
    result.kv = true;
    result.dp_rank = dp_rank;
    result.instance = holder.instance;
    result.first_layer = first_layer_of(with_views(holder, what.list()));
    result.sibling = true;
    result.views = what.list();
    return result;
}

/// Each context rank is asked for the one at once, and perhaps for the other later.
std::vector<writer_binding> in_two_parts(const std::vector<writer_binding>& writers,
                                         const share& at_once, const share& by_siblings) {
    std::vector<writer_binding> result;
    for (const auto& each : writers) {
        auto own = each;
        own.in_parts = true;
        own.kv = at_once.brought_by.contains(each.rank);
        own.views = at_once.list();
        auto rest = each;
        rest.in_parts = rest.held_back = true;
        rest.kv = by_siblings.brought_by.contains(each.rank);
        rest.aux = false;
        rest.views = by_siblings.list();
        if (own.kv || own.aux)
            result.push_back(std::move(own));
        if (rest.kv)
            result.push_back(std::move(rest));
    }
    return result;
}

} // namespace

void bind_relay(bind_writers& bound, const transfer_parties& parties, const rank_info& self,
                const std::vector<rank_info>& own, const std::vector<rank_info>& context,
                rid request, aux_mode aux) {
    if (bound.writers.empty())
        return;
    share at_once;
    share landing;
    share by_siblings;
    std::map<rank_id, share> from;
    at_once.add(parties.own_views, parties.own_brought_by);
    for (const auto& part : parties.shared) {
        if (!part.what.concerns(self.rank))
            continue;
        if (const auto where = landing_rank(part.what, request); where != self.rank) {
            from[where].add(part);
            by_siblings.add(part);
        } else {
            at_once.add(part);
            landing.add(part);
        }
    }
    if (landing.empty() && from.empty())
        return;
    auto& relay = bound.relay.emplace();
    relay.of = relay_digest(context);
    relay.hands_on = !landing.empty();
    relay.views = landing.list();
    // With all that it needs it takes the record as well.
    const auto alone = at_once.empty() && from.size() == 1;
    for (const auto& [rank, what] : from) {
        auto sibling = sibling_at(own[rank.value], what, bound.writers.front().dp_rank);
        sibling.aux = alone && aux == aux_mode::required;
        sibling.receivers = takers_of(rank, parties, request);
        relay.from.push_back(std::move(sibling));
    }
    if (alone)
        for (auto& each : bound.writers)
            each.held_back = true;
    else if (!from.empty())
        bound.writers = in_two_parts(bound.writers, at_once, by_siblings);
}

} // namespace kvferry
