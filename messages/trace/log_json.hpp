// SPDX-License-Identifier: Apache-2.0
// A line of the log as one JSON object.
#pragma once

#include <spdlog/details/log_msg.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry {

/// The date and time of a line, with milliseconds and zone, for spdlog's patterns (ISO 8601).
inline constexpr const char* log_time_pattern = "%Y-%m-%dT%H:%M:%S.%e%z";

/// {"time":..., "level":"info", "pid":1, "logger":"kvferry", "rank":"context/0", "rid":7,
/// "message":...}, without rank and rid where they are not known. Bytes that are not UTF-8 are
/// replaced.
std::string json_line(const spdlog::details::log_msg&, std::string_view rank, std::uint64_t rid);

} // namespace kvferry
