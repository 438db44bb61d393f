// SPDX-License-Identifier: Apache-2.0
// What UCX can do on this machine, asked without a worker: for `kvferry doctor`.
#pragma once

#include "messages/errors.hpp"
#include "transport/ucx/ucx_resources.hpp"

#include <string>
#include <vector>

namespace kvferry {

struct ucx_abilities {
    /// Of the library loaded at run time: "1.13.1".
    std::string version;
    std::vector<ucx_resource> resources;
};

/// Makes a context like a worker's, with the same environment variables, and frees it. ucx_failed
/// carries UCX's reason.
caf::expected<ucx_abilities> probe_ucx(const std::string& net_devices);

} // namespace kvferry
