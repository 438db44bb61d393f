// SPDX-License-Identifier: Apache-2.0
// What the ranks of a deployment have said, as one table for each instance and as JSON.
#pragma once

#include "tools/trace/deployment/lookout.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace kvferry::tracing {

/// GB/s between two looks; of the cache, as sessions count it.
struct rank_rates {
    double in = 0;
    double out = 0;
};

/// By the name of the rank. Ranks that were not seen twice, or were started anew between, have
/// none.
std::map<std::string, rank_rates> rates_between(const std::vector<instance_view>& before,
                                                const std::vector<instance_view>& now);

/// `rows`: sessions that are listed, those that end next.
std::string text_of(const std::vector<instance_view>&, const std::map<std::string, rank_rates>&,
                    std::size_t rows);

/// {"instances":[...],"sessions":[...]}; rates that are not known are missing.
nlohmann::json json_of(const std::vector<instance_view>&, const std::map<std::string, rank_rates>&);

} // namespace kvferry::tracing
