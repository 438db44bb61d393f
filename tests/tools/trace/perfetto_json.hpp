// SPDX-License-Identifier: Apache-2.0
// A file for Perfetto, read back.
#pragma once

#include "tools/trace/pictures/perfetto.hpp"

#include <sstream>

namespace kvferry::tracing {

inline nlohmann::json perfetto_json(const flow& from) {
    std::ostringstream file;
    write_perfetto(file, from);
    return nlohmann::json::parse(file.str());
}

} // namespace kvferry::tracing
