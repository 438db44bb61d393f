// SPDX-License-Identifier: Apache-2.0
// kvferry's own log: one logger for all layers, set in one place, quiet unless something is wrong.
//
// Ids stand in it as the tools take them: `rid 7` is --rid 7 and {"rid":7}, `incarnation N` and
// `host:port` likewise. What went wrong is logged once, where it was noticed, and never as the
// only answer: whoever asked gets the error as a value.
#pragma once

#include <caf/error.hpp>
#include <spdlog/logger.h>

#include <memory>
#include <string_view>

namespace kvferry {

/// The logger. Until set_logger it writes to standard error, from level `error` on, or from the one
/// that KVFERRY_LOG names; the host's own default logger of spdlog is left alone. Thread-safe.
spdlog::logger& logger();

/// Hands all lines to a logger of the host's, with its sinks and its level. For the start of a
/// program: before the first worker, and not while anybody logs.
void set_logger(std::shared_ptr<spdlog::logger>);

/// "trace", "debug", "info", "warn", "error", "critical", "off". invalid_argument names them.
caf::error set_log_level(std::string_view name);

} // namespace kvferry
