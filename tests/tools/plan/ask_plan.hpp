// SPDX-License-Identifier: Apache-2.0
// What `kvferry plan --json` says to these flags.
#pragma once

#include "tools/plan/text.hpp"

#include <nlohmann/json.hpp>

namespace kvferry::testing {

inline nlohmann::json ask(const tools::plan_flags& flags) {
    using nlohmann::json;
    auto question = tools::parse_plan_flags(flags);
    if (!question)
        return json::parse(tools::json_of(question.error()));
    auto routes = tools::plan_routes(*question);
    if (!routes)
        return json::parse(tools::json_of(routes.error()));
    return json::parse(tools::json_of(*question, *routes, false));
}

} // namespace kvferry::testing
