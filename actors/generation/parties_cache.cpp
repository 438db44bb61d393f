// SPDX-License-Identifier: Apache-2.0
// Parties by endpoint and kind of request.
#include "actors/generation/parties_cache.hpp"

#include "messages/trace/log.hpp"
#include "messages/type_ids.hpp"

#include <spdlog/fmt/ranges.h>

namespace kvferry {

const caf::expected<transfer_parties_ptr>&
parties_cache::of(const std::string& context_endpoint, const parties_wanted& wanted,
                  const std::vector<rank_info>& own, const std::vector<rank_info>& context) {
    auto& of_context = known_[context_endpoint];
    for (const auto& [kind, known] : of_context)
        if (kind == wanted)
            return known;
    auto& result = of_context.emplace_back(wanted, transfer_parties_ptr{}).second;
    auto parties =
        parties_of(self_, own, context, wanted.context_dp_rank, wanted.aux, wanted.allowed);
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

void parties_cache::forget(const std::string& endpoint) {
    if (endpoint == own_endpoint_)
        known_.clear();
    else
        known_.erase(endpoint);
}

} // namespace kvferry
