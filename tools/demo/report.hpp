// SPDX-License-Identifier: Apache-2.0
// A result as text for people, or as one JSON object for machines.
#pragma once

#include "tools/demo/result.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>

namespace kvferry::demo {

struct report_style {
    bool colours = false;
    std::size_t columns = 100; ///< of the terminal
};

/// Shows the ranks and who sends to whom, the requests, their text, and the verdict.
std::string text_report(const demo_result& result, report_style style);

nlohmann::json json_report(const demo_result& result);

} // namespace kvferry::demo
