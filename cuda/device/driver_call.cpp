// SPDX-License-Identifier: Apache-2.0
// Looks entries up through the runtime, which has found the driver.
#include "cuda/device/driver_call.hpp"

#include "cuda/device/cuda_error.hpp"

#include <cuda_runtime_api.h>

#include <string>

namespace kvferry {

namespace {

constexpr unsigned driver_version_min = 12000;

} // namespace

caf::expected<void*> driver_entry(const char* name) {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const auto status = cudaGetDriverEntryPointByVersion(name, &entry, driver_version_min,
                                                         cudaEnableDefault, &found);
    if (status != cudaSuccess)
        return cuda_error("cudaGetDriverEntryPointByVersion(" + std::string{name} + ")", status);
    if (found != cudaDriverEntryPointSuccess || !entry)
        return make_error(errc::unsupported, "the driver has no " + std::string{name});
    return entry;
}

caf::error driver_error(const char* call, CUresult status) {
    const char* name = nullptr;
    const char* text = nullptr;
    if (auto entry = driver_entry("cuGetErrorName"))
        (void)reinterpret_cast<decltype(&cuGetErrorName)> (*entry)(status, &name);
    if (auto entry = driver_entry("cuGetErrorString"))
        (void)reinterpret_cast<decltype(&cuGetErrorString)> (*entry)(status, &text);
    return make_error(errc::cuda_failed, std::string{call} + ": "
                                             + (name ? name : std::to_string(status).c_str())
                                             + (text ? ": " + std::string{text} : std::string{}));
}

} // namespace kvferry
