// SPDX-License-Identifier: Apache-2.0
// A run as a command gets it.
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

/// What could not be read of it is on standard error; nothing when nothing could.
std::optional<opened_run> open_run(const std::string& path);

} // namespace kvferry::tracing
