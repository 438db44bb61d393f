// SPDX-License-Identifier: Apache-2.0
// Protects the current device that the runtime keeps per thread. Needs the toolkit's headers.
#pragma once

#include <cuda_runtime_api.h>

namespace kvferry {

/// Restores the thread's current device at the end.
class current_device_guard {
public:
    current_device_guard() : known_(cudaGetDevice(&ordinal_) == cudaSuccess) {}
    current_device_guard(const current_device_guard&) = delete;
    current_device_guard& operator=(const current_device_guard&) = delete;
    ~current_device_guard() {
        if (known_)
            (void)cudaSetDevice(ordinal_);
    }

private:
    int ordinal_ = 0;
    bool known_;
};

} // namespace kvferry
