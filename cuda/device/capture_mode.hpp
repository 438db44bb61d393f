// SPDX-License-Identifier: Apache-2.0
// How this library's threads live beside a stream capture of the host (torch.cuda.graph). Needs the
// toolkit's headers.
//
// A capture in the default (global) mode forbids most calls to every thread of the process that has
// not asked for the relaxed mode, and a forbidden call also ends the capture.
#pragma once

#include <cuda_runtime_api.h>

namespace kvferry {

/// For a thread that is this library's own: from now on it may call during captures of others.
inline void relax_capture_mode_of_thread() {
    auto mode = cudaStreamCaptureModeRelaxed;
    (void)cudaThreadExchangeStreamCaptureMode(&mode);
}

/// The same for a stretch of a host's thread.
class relaxed_capture_mode {
public:
    relaxed_capture_mode() : known_(cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess) {}
    relaxed_capture_mode(const relaxed_capture_mode&) = delete;
    relaxed_capture_mode& operator=(const relaxed_capture_mode&) = delete;
    ~relaxed_capture_mode() {
        if (known_)
            (void)cudaThreadExchangeStreamCaptureMode(&mode_);
    }

private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
    bool known_;
};

/// True for what a call says when it met a capture: it was refused, and nothing is broken.
inline bool is_capture_error(cudaError_t status) {
    return status >= cudaErrorStreamCaptureUnsupported
           && status <= cudaErrorStreamCaptureWrongThread;
}

} // namespace kvferry
