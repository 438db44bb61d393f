// SPDX-License-Identifier: Apache-2.0
// CUDA objects with exactly one owner. Made on the calling thread's current device; may be freed on
// any thread. Needs the toolkit's headers.
#pragma once

#include "cuda/device/cuda_error.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

namespace kvferry {

struct stream_deleter {
    void operator()(cudaStream_t stream) const noexcept { (void)cudaStreamDestroy(stream); }
};
struct event_deleter {
    void operator()(cudaEvent_t event) const noexcept { (void)cudaEventDestroy(event); }
};
/// cudaFree waits for the device: do not free while others use it.
struct device_memory_deleter {
    void operator()(std::byte* memory) const noexcept { (void)cudaFree(memory); }
};
/// cudaFreeHost waits for the device as well.
struct pinned_memory_deleter {
    void operator()(std::byte* memory) const noexcept { (void)cudaFreeHost(memory); }
};

using unique_stream = std::unique_ptr<CUstream_st, stream_deleter>;
using unique_event = std::unique_ptr<CUevent_st, event_deleter>;
using unique_device_memory = std::unique_ptr<std::byte, device_memory_deleter>;
using unique_pinned_memory = std::unique_ptr<std::byte, pinned_memory_deleter>;

/// Independent of the default stream, and before it: its kernels start between two blocks of an
/// engine's kernel that fills the device, not after it.
inline caf::expected<unique_stream> make_stream() {
    cudaStream_t stream = nullptr;
    int lowest = 0, highest = 0;
    auto status = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
    if (status == cudaSuccess)
        status = cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, highest);
    if (status != cudaSuccess)
        return cuda_error("cudaStreamCreateWithPriority", status);
    return unique_stream{stream};
}

/// For polling; without timing.
inline caf::expected<unique_event> make_event() {
    cudaEvent_t event = nullptr;
    if (auto status = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
        status != cudaSuccess)
        return cuda_error("cudaEventCreateWithFlags", status);
    return unique_event{event};
}

inline caf::expected<unique_device_memory> make_device_memory(std::size_t bytes) {
    void* memory = nullptr;
    if (auto status = cudaMalloc(&memory, bytes); status != cudaSuccess)
        return cuda_error("cudaMalloc(" + std::to_string(bytes) + ")", status);
    return unique_device_memory{static_cast<std::byte*>(memory)};
}

/// Host memory that every device reads and writes at the same address.
inline caf::expected<unique_pinned_memory> make_pinned_memory(std::size_t bytes) {
    void* memory = nullptr;
    if (auto status = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable); status != cudaSuccess)
        return cuda_error("cudaHostAlloc(" + std::to_string(bytes) + ")", status);
    return unique_pinned_memory{static_cast<std::byte*>(memory)};
}

} // namespace kvferry
