// SPDX-License-Identifier: Apache-2.0
// Sends JSON to a collector over HTTP.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/info_endpoint.hpp"

#include <chrono>
#include <string>

namespace kvferry::tracing {

/// "http://host[:port][/path]": without a path that of OTLP, without a port 4318.
struct http_target {
    info_endpoint server;
    std::string path = "/v1/traces";
};

/// invalid_argument shows the text. There is no TLS: a collector beside this machine's processes
/// takes it from there.
caf::expected<http_target> parse_http_target(const std::string&);

/// One POST, answered within the deadline. dial_failed: nobody answers; transfer_failed: with
/// another status than 2xx.
caf::error http_post(const http_target&, const std::string& json,
                     std::chrono::milliseconds deadline);

} // namespace kvferry::tracing
