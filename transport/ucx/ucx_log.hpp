// SPDX-License-Identifier: Apache-2.0
// UCX's own log messages go where ours go; by default UCX prints them on standard output, which
// belongs to the host.
#pragma once

namespace kvferry {

/// For the whole process, from the first call on. UCX_LOG_LEVEL still says what UCX tells at all.
void forward_ucx_log();

} // namespace kvferry
