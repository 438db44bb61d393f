// SPDX-License-Identifier: Apache-2.0
// A recorded run as a scenario of the simulation: what the hosts did, each after as many messages
// of its request as in the run. Pure.
#pragma once

#include "messages/errors.hpp"
#include "tools/trace/flow.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct replay {
    nlohmann::json scenario;
    /// What of the run the simulation does differently, as lines for people.
    std::vector<std::string> notes;
};

/// Of all requests, or of one. invalid_argument: the run has none, or not between two instances in
/// shapes that the simulation has; says which.
caf::expected<replay> replay_of(const flow&, std::optional<std::uint64_t> rid);

} // namespace kvferry::tracing
