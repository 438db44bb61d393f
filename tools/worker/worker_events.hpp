// SPDX-License-Identifier: Apache-2.0
// What happens on a rank, as the JSON lines that `kvferry worker` prints.
#pragma once

#include "messages/local/outcomes.hpp"
#include "messages/local/status.hpp"
#include "messages/local/worker.hpp"
#include "messages/values/ids.hpp"

#include <nlohmann/json.hpp>

namespace kvferry::tools {

using json = nlohmann::json;

json error_json(const caf::error&);
json event_of(const session_finished&, std::chrono::milliseconds since_open);
json event_of(const piece_finished&);
json event_of(const session_released&);
json event_of(const session_status&);
json event_of(const worker_statistics&);
json error_event(const json& command, const caf::error&);

/// One line without its newline. Bytes that are not UTF-8 are replaced.
std::string line_of(const json&);

} // namespace kvferry::tools
