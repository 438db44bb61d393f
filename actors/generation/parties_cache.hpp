// SPDX-License-Identifier: Apache-2.0
// Who takes part in a transfer, worked out once per pair of instances and kind of request.
#pragma once

#include "actors/decisions/receiving/instance_answer.hpp"
#include "actors/decisions/receiving/parties_wanted.hpp"
#include "messages/values/rank_info.hpp"

#include <string>
#include <utility>

namespace kvferry {

/// Remembers parties_of() with the answer of the context, as long as the own instance's is the
/// same.
class parties_cache {
public:
    explicit parties_cache(rank_info self) : self_(std::move(self)) {}

    /// Both are what the instances have answered last; the endpoint is for texts.
    const caf::expected<transfer_parties_ptr>& of(const std::string& context_endpoint,
                                                  const parties_wanted&, const instance_ranks& own,
                                                  instance_answer& context) const;

    /// This rank is one of those that it says.
    bool has_self(instance_answer&) const;

private:
    rank_info self_;
};

} // namespace kvferry
