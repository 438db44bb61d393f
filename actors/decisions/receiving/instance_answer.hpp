// SPDX-License-Identifier: Apache-2.0
// What an instance has answered, and with it what a receiver has worked out of that: both end
// together, and whoever has found the one has found the other.
#pragma once

#include "actors/decisions/receiving/parties_wanted.hpp"
#include "actors/decisions/receiving/transfer_parties.hpp"
#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry {

/// All ranks of an instance; ranks[i] is rank i, which who uses them checks.
using instance_ranks = std::shared_ptr<const std::vector<rank_info>>;

/// Filled by parties_cache.
struct known_parties {
    /// The own instance's answer that they follow from, too. It may be this very one.
    std::weak_ptr<const std::vector<rank_info>> own = {};
    /// An instance is asked for a few kinds of requests at most.
    std::vector<std::pair<parties_wanted, caf::expected<transfer_parties_ptr>>> by_kind = {};
    /// The receiver is itself one of the ranks.
    std::optional<bool> has_self = {};
};

struct instance_answer {
    explicit instance_answer(std::vector<rank_info> answered) : ranks(std::move(answered)) {}

    known_parties parties;
    const std::vector<rank_info> ranks;
};

using instance_answer_ptr = std::shared_ptr<instance_answer>;

inline instance_ranks ranks_of(const instance_answer_ptr& x) {
    return x ? instance_ranks{x, &x->ranks} : nullptr;
}

} // namespace kvferry
