// SPDX-License-Identifier: Apache-2.0
// The one conversion of UCX's status codes to errors.
#pragma once

#include "messages/errors.hpp"

#include <ucs/type/status.h>

#include <string_view>

namespace kvferry {

/// "call: status text". link_lost when the status says that the peer cannot be reached any more,
/// ucx_failed for all others.
caf::error ucx_error(std::string_view call, ucs_status_t status);

} // namespace kvferry
