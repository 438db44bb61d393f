// SPDX-License-Identifier: Apache-2.0
// A run as one self-contained HTML page: lanes, arrows, search, histograms; no network.
#pragma once

#include "tools/trace/flow.hpp"

#include <string>

namespace kvferry::tracing {

std::string page_of(const flow&);

} // namespace kvferry::tracing
