// SPDX-License-Identifier: Apache-2.0
// Statistics and findings, for people and as JSON.
#pragma once

#include "tools/trace/check.hpp"
#include "tools/trace/stats.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>

namespace kvferry::tracing {

/// With the `slowest` requests, each with its stages.
std::string text_of(const run_statistics&, std::size_t slowest);
nlohmann::json json_of(const run_statistics&, std::size_t slowest);

std::string text_of(const check_result&);
nlohmann::json json_of(const check_result&);

/// The files of the run, their clock offsets, and what could not be read.
std::string text_of_run(const flow&, const std::vector<std::string>& problems);

/// One object per event.
nlohmann::json json_of(const flow&, const step&);

} // namespace kvferry::tracing
