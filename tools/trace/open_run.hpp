// SPDX-License-Identifier: Apache-2.0
// Opens the run that a command line names.
#pragma once

#include "tools/trace/flow.hpp"

#include <optional>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct opened_run {
    flow joined;
    std::vector<std::string> problems;
};

/// Reports unreadable parts on standard error. nullopt when nothing could be read.
std::optional<opened_run> open_run(const std::string& path);

} // namespace kvferry::tracing
