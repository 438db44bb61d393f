// SPDX-License-Identifier: Apache-2.0
// Protects what the runtime keeps per thread when a host's thread calls us. Needs the toolkit's
// headers.
#pragma once

#include "cuda/device/capture_mode.hpp"

#include <cuda_runtime_api.h>

namespace kvferry {

/// Restores the thread's current device and capture mode at the end. Meanwhile a capture of another
/// thread forbids nothing.
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
    relaxed_capture_mode relaxed_;
    int ordinal_ = 0;
    bool known_;
};

} // namespace kvferry
