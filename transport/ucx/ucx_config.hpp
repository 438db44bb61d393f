// SPDX-License-Identifier: Apache-2.0
// How UCX is set up for kvferry: for workers, and for whoever asks what a worker could use.
#pragma once

#include "transport/ucx/ucx_handles.hpp"

#include <caf/expected.hpp>

#include <string>

namespace kvferry {

/// Reads UCX_* from the environment and adds kvferry's own settings where the environment says
/// nothing. `net_devices` is the value of UCX_NET_DEVICES for this context; empty: UCX's default.
/// invalid_argument: the environment names a device that the machine does not have.
caf::expected<ucx_config_handle> make_ucx_config(const std::string& net_devices, bool rma,
                                                 bool tcp = true);

/// What a worker that could not be made may have lacked; UCX does not say it. Empty: nothing.
std::string shared_memory_shortage();

} // namespace kvferry
