// SPDX-License-Identifier: Apache-2.0
// Which of UCX's status codes mean a lost link.
#include "transport/ucx/ucx_error.hpp"

#include "messages/values/error_format.hpp"

#include <string>

namespace kvferry {

namespace {

bool is_link_loss(ucs_status_t status) {
    switch (status) {
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_CANCELED:
    case UCS_ERR_TIMED_OUT:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_REJECTED:
    case UCS_ERR_ENDPOINT_TIMEOUT:
        return true;
    default:
        return false;
    }
}

} // namespace

caf::error ucx_error(std::string_view call, ucs_status_t status) {
    return make_error(is_link_loss(status) ? errc::link_lost : errc::ucx_failed, "{}: {}", call,
                      ucs_status_string(status));
}

} // namespace kvferry
