// SPDX-License-Identifier: Apache-2.0
// Devices for tests: whether any are there, and memory on them.
#pragma once

#include "cuda/device/device_handles.hpp"
#include "cuda/device/driver.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace kvferry::testing {

inline const cuda_probe_result& devices() {
    static const auto found = cuda_probe();
    return found;
}

/// First line of a device test.
#define KVFERRY_NEEDS_DEVICES(count)                                                               \
    do {                                                                                           \
        if (kvferry::testing::devices().devices.size() < static_cast<std::size_t>(count)) {        \
            MESSAGE("skipped: no device (needs " << (count) << ")");                               \
            return;                                                                                \
        }                                                                                          \
    } while (false)

#define KVFERRY_CUDA_REQUIRE(call)                                                                 \
    do {                                                                                           \
        const cudaError_t status = (call);                                                         \
        REQUIRE_MESSAGE(status == cudaSuccess, #call << ": " << cudaGetErrorString(status));       \
    } while (false)

/// Memory on one device, written and read by the driver's own copies.
class device_memory {
public:
    explicit device_memory(std::size_t bytes, int ordinal = 0) : bytes_(bytes) {
        KVFERRY_CUDA_REQUIRE(cudaSetDevice(ordinal));
        auto made = make_device_memory(bytes + 1);
        REQUIRE_MESSAGE(made, describe(made.error()));
        memory_ = std::move(*made);
    }
    std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(memory_.get()); }
    void write(const std::vector<std::byte>& content) {
        KVFERRY_CUDA_REQUIRE(
            cudaMemcpy(memory_.get(), content.data(), content.size(), cudaMemcpyHostToDevice));
        KVFERRY_CUDA_REQUIRE(cudaDeviceSynchronize());
    }
    std::vector<std::byte> read() const {
        std::vector<std::byte> result(bytes_);
        KVFERRY_CUDA_REQUIRE(
            cudaMemcpy(result.data(), memory_.get(), bytes_, cudaMemcpyDeviceToHost));
        return result;
    }

private:
    std::size_t bytes_;
    unique_device_memory memory_;
};

} // namespace kvferry::testing
