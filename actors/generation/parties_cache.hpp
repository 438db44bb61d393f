// SPDX-License-Identifier: Apache-2.0
// Who takes part in a transfer, worked out once per pair of instances and kind of request.
#pragma once

#include "actors/decisions/receiving/parties_wanted.hpp"
#include "actors/decisions/receiving/transfer_parties.hpp"
#include "messages/values/rank_info.hpp"

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kvferry {

/// Remembers parties_of() until one of the two instances changes.
class parties_cache {
public:
    parties_cache(rank_info self, std::string own_endpoint)
        : self_(std::move(self)), own_endpoint_(std::move(own_endpoint)) {}

    /// `own` and `context` are what the two endpoints have answered last.
    const caf::expected<transfer_parties_ptr>& of(const std::string& context_endpoint,
                                                  const parties_wanted&,
                                                  const std::vector<rank_info>& own,
                                                  const std::vector<rank_info>& context);

    /// Both instances decide about the parties, the own one about all of them.
    void forget(const std::string& endpoint);

private:
    rank_info self_;
    std::string own_endpoint_;
    /// By endpoint; an instance is asked for a few kinds of requests at most.
    std::unordered_map<std::string,
                       std::vector<std::pair<parties_wanted, caf::expected<transfer_parties_ptr>>>>
        known_;
};

} // namespace kvferry
