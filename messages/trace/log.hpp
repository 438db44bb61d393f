// SPDX-License-Identifier: Apache-2.0
// kvferry's own log: one logger for all layers, set in one place, quiet unless something is wrong.
//
// It writes ids as the tools take them: `rid 7` is --rid 7 and {"rid":7}, `incarnation N` and
// `host:port` likewise. The rank whose actor logs follows the logger's name: "kvferry context/0".
// An error is logged once, where it was noticed; the caller also gets it as a value.
#pragma once

#include <caf/error.hpp>
#include <spdlog/logger.h>

#include <memory>
#include <string_view>

namespace kvferry {

/// The logger. Until set_logger it writes to standard error, from level `error` on, or from the
/// level that KVFERRY_LOG names; KVFERRY_LOG_FORMAT=json makes each line one JSON object, with rank
/// and rid where they are known. `error`: something is lost; `warn`: it costs time or looks wrong;
/// `info`: sessions and links; `debug`: messages between ranks too; `trace`: I/O too. It leaves the
/// host's default spdlog logger alone. Thread-safe, and never waits for a sink (log_queue.hpp): a
/// thread writes the lines, in order. flush() waits for it, but not for ever.
spdlog::logger& logger();

/// Sends all lines to the sinks of the host's logger, under its name and from its present level on.
/// Call it before the first worker starts and while no thread logs.
void set_logger(std::shared_ptr<spdlog::logger>);

/// "trace", "debug", "info", "warn", "error", "critical", "off". invalid_argument names them.
caf::error set_log_level(std::string_view name);

} // namespace kvferry
