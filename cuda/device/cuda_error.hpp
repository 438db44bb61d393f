// SPDX-License-Identifier: Apache-2.0
// The one conversion from the CUDA runtime's errors to ours. Needs the toolkit's headers.
#pragma once

#include "messages/errors.hpp"

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

namespace kvferry {

/// "call: cudaErrorName: text". Clears the thread's last error, which is this one.
inline caf::error cuda_error(std::string_view call, cudaError_t status) {
    (void)cudaGetLastError();
    return make_error(errc::cuda_failed, std::string{call} + ": " + cudaGetErrorName(status) + ": "
                                             + cudaGetErrorString(status));
}

} // namespace kvferry
