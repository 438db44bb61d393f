// SPDX-License-Identifier: Apache-2.0
// Parties by kind of request.
#include "actors/generation/parties_cache.hpp"

#include "messages/trace/log.hpp"
#include "messages/type_ids.hpp"

#include <spdlog/fmt/ranges.h>

#include <algorithm>

namespace kvferry {

const caf::expected<transfer_parties_ptr>& parties_cache::of(const std::string& context_endpoint,
                                                             const parties_wanted& wanted,
                                                             const instance_ranks& own,
                                                             instance_answer& context) const {
    auto& cached = context.parties;
    if (cached.own.owner_before(own) || own.owner_before(cached.own)) { // that decides about all
        cached.own = own;
        cached.by_kind.clear();
    }
    for (const auto& [kind, known] : cached.by_kind)
        if (kind == wanted)
            return known;
    auto& result = cached.by_kind.emplace_back(wanted, transfer_parties_ptr{}).second;
    auto parties =
        parties_of(self_, *own, context.ranks, wanted.context_dp_rank, wanted.aux, wanted.allowed);
    if (!parties) {
        result = std::move(parties.error());
        return result;
    }
    if (!parties->layers_skipped.empty() || !parties->roles_skipped.empty())
        logger().info("{}: the instance at {} does not have layers [{}], roles [{}]: skipped",
                      describe(self_), context_endpoint, fmt::join(parties->layers_skipped, ", "),
                      fmt::join(parties->roles_skipped, ", "));
    result = std::make_shared<const transfer_parties>(std::move(*parties));
    return result;
}

bool parties_cache::has_self(instance_answer& x) const {
    if (!x.parties.has_self)
        x.parties.has_self =
            std::any_of(x.ranks.begin(), x.ranks.end(), [this](const rank_info& rank) {
                return rank.incarnation == self_.incarnation;
            });
    return *x.parties.has_self;
}

} // namespace kvferry
