// SPDX-License-Identifier: Apache-2.0
// Which of the two formats a client would rather have, by its header Accept. Pure.
#pragma once

#include "actors/metrics/exposition.hpp"

#include <string_view>

namespace kvferry {

/// OpenMetrics where it is asked for by name and not less than text/plain; else Prometheus' own.
exposition::format format_for(std::string_view accept);

} // namespace kvferry
