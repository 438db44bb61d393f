// SPDX-License-Identifier: Apache-2.0
// All sessions of running ranks at one time: how many are in each state, and which end next.
#pragma once

#include "tools/trace/live/why.hpp"
#include "tools/trace/recording.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct overview {
    /// Per rank: number of sessions by state. Ranks without sessions are listed as well.
    std::map<std::string, std::map<std::string, std::size_t>> ranks;
    /// Sessions of silent ranks come first, then the others by time left, then those without a
    /// deadline.
    std::vector<trace::session_record> sessions;
};

overview overview_of(const std::vector<recording>&);

/// Lists at most `rows` sessions and says how many are left out.
std::string text_of(const overview&, const std::vector<silent_process>&, std::size_t rows);

/// {"ranks":[...],"sessions":[...],"silent":[...]} with all sessions.
nlohmann::json json_of(const overview&, const std::vector<silent_process>&);

} // namespace kvferry::tracing
