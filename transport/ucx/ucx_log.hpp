// SPDX-License-Identifier: Apache-2.0
// Sends UCX's log messages to kvferry's log; by default UCX prints them on standard output, which
// belongs to the host.
#pragma once

namespace kvferry {

/// Applies to the whole process from the first call on. UCX_LOG_LEVEL still sets what UCX logs.
void forward_ucx_log();

} // namespace kvferry
