// SPDX-License-Identifier: Apache-2.0
// Where a collector takes spans. Pure.
#pragma once

#include "messages/errors.hpp"

#include <string>
#include <string_view>

namespace kvferry {

/// "http://127.0.0.1:4318", as OTEL_EXPORTER_OTLP_ENDPOINT has it, becomes
/// "http://127.0.0.1:4318/v1/traces"; a text that ends so already stays. invalid_argument shows a
/// text that is no such URL.
caf::expected<std::string> spans_target(std::string_view endpoint);

} // namespace kvferry
