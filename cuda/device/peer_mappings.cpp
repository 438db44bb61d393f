// SPDX-License-Identifier: Apache-2.0
// The runtime's calls behind exports, mappings and pins; one driver call is looked up by name.
#include "cuda/device/peer_mappings.hpp"

#include "cuda/device/cuda_copy_device.hpp"
#include "cuda/device/cuda_error.hpp"
#include "cuda/device/process_number.hpp"

#include <cuda.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>

namespace kvferry {

namespace {

/// "GPU-xxxxxxxx-xxxx-...", as nvidia-smi prints it.
std::string name_of(const cudaUUID_t& uuid) {
    std::string result = "GPU";
    for (std::size_t i = 0; i < sizeof(uuid.bytes); ++i) {
        std::array<char, 3> digits{};
        std::snprintf(digits.data(), digits.size(), "%02x",
                      static_cast<unsigned>(static_cast<unsigned char>(uuid.bytes[i])));
        result += (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) ? "-" : "";
        result += digits.data();
    }
    return result;
}

struct allocation {
    std::uint64_t base = 0;
    std::size_t bytes = 0;
};

/// Asks the driver: the runtime has no call for this.
caf::expected<allocation> allocation_of(const std::byte* address) {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const auto status = cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &entry, 12000,
                                                         cudaEnableDefault, &found);
    if (status != cudaSuccess)
        return cuda_error("cudaGetDriverEntryPointByVersion(cuMemGetAddressRange)", status);
    if (found != cudaDriverEntryPointSuccess || !entry)
        return make_error(errc::unsupported, "the driver has no cuMemGetAddressRange");
    CUdeviceptr base = 0;
    std::size_t bytes = 0;
    const auto range = reinterpret_cast<decltype(&cuMemGetAddressRange)>(entry)(
        &base, &bytes, reinterpret_cast<CUdeviceptr>(address));
    if (range != CUDA_SUCCESS)
        return make_error(errc::cuda_failed,
                          "cuMemGetAddressRange: error " + std::to_string(range));
    return allocation{base, bytes};
}

} // namespace

caf::expected<int> cuda_device_of(const std::byte* address) {
    cudaPointerAttributes found{};
    const auto status = cudaPointerGetAttributes(&found, address);
    if (status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice)
        return make_error(errc::unsupported, text_of(cuda_error("no device", status)));
    if (status != cudaSuccess)
        return cuda_error("cudaPointerGetAttributes", status);
    if (found.type != cudaMemoryTypeDevice)
        return make_error(errc::registration_failed,
                          found.type == cudaMemoryTypeManaged
                              ? "it is managed memory: allocate pools with cudaMalloc"
                              : "it is not memory of a device");
    return found.device;
}

caf::error enable_peer(int from, int to) {
    if (from == to)
        return {};
    auto status = cudaSetDevice(from);
    if (status == cudaSuccess)
        status = cudaDeviceEnablePeerAccess(to, 0);
    if (status == cudaErrorPeerAccessAlreadyEnabled) {
        (void)cudaGetLastError();
        return {};
    }
    if (status != cudaSuccess)
        return cuda_error("cudaDeviceEnablePeerAccess(cuda:" + std::to_string(from)
                              + " to cuda:" + std::to_string(to) + ")",
                          status);
    return {};
}

caf::expected<device_export> export_allocation(std::byte* base, std::uint64_t bytes, int ordinal) {
    auto whole = allocation_of(base);
    if (!whole)
        return std::move(whole.error());
    device_export result;
    result.process = process_number();
    result.offset_bytes = reinterpret_cast<std::uint64_t>(base) - whole->base;
    if (result.offset_bytes + bytes > whole->bytes)
        return make_error(errc::registration_failed,
                          std::to_string(bytes) + " bytes reach beyond their allocation, which has "
                              + std::to_string(whole->bytes - result.offset_bytes)
                              + " from there on");
    cudaDeviceProp properties{};
    if (auto status = cudaGetDeviceProperties(&properties, ordinal); status != cudaSuccess)
        return cuda_error("cudaGetDeviceProperties", status);
    result.device = name_of(properties.uuid);
    cudaIpcMemHandle_t handle{};
    const auto status = cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(whole->base));
    if (status == cudaSuccess) {
        result.handle.resize(sizeof(handle));
        std::memcpy(result.handle.data(), &handle, sizeof(handle));
    } else {
        result.obstacle = text_of(cuda_error("cudaIpcGetMemHandle", status))
                          + "; only memory of cudaMalloc has such a handle";
    }
    return result;
}

// -- mappings -------------------------------------------------------------------------------

peer_mappings::~peer_mappings() {
    for (auto& [handle, x] : by_handle_)
        (void)cudaIpcCloseMemHandle(x.base);
}

caf::expected<std::byte*> peer_mappings::open(const memory_region& region) {
    const auto& how = region.on_device;
    if (how.process == process_number()) {
        auto* address = reinterpret_cast<std::byte*>(region.base_address);
        auto where = cuda_device_of(address);
        if (!where)
            return std::move(where.error());
        if (auto error = enable_peer(ordinal_, *where))
            return error;
        return address;
    }
    if (how.handle.size() != sizeof(cudaIpcMemHandle_t))
        return make_error(errc::unsupported,
                          how.obstacle.empty() ? "its owner gave no handle" : how.obstacle);
    auto& mapping = by_handle_[how.handle];
    if (mapping.users == 0) {
        cudaIpcMemHandle_t handle;
        std::memcpy(&handle, how.handle.data(), sizeof(handle));
        void* base = nullptr;
        const auto status = cudaIpcOpenMemHandle(&base, handle, cudaIpcMemLazyEnablePeerAccess);
        if (status != cudaSuccess) {
            by_handle_.erase(how.handle);
            return cuda_error("cudaIpcOpenMemHandle(memory of " + how.device + ")", status);
        }
        mapping.base = static_cast<std::byte*>(base);
    }
    ++mapping.users;
    return mapping.base + how.offset_bytes;
}

void peer_mappings::close(const memory_region& region) {
    auto found = by_handle_.find(region.on_device.handle);
    if (found == by_handle_.end() || --found->second.users > 0)
        return;
    (void)cudaIpcCloseMemHandle(found->second.base);
    by_handle_.erase(found);
}

// -- pinned host memory ---------------------------------------------------------------------

host_pins::~host_pins() {
    for (auto& [base, users] : users_)
        (void)cudaHostUnregister(base);
}

caf::error host_pins::add(std::byte* base, std::uint64_t bytes) {
    if (auto known = users_.find(base); known != users_.end()) {
        ++known->second;
        return {};
    }
    const auto status = cudaHostRegister(base, bytes, cudaHostRegisterPortable);
    if (status == cudaErrorHostMemoryAlreadyRegistered) {
        (void)cudaGetLastError();
        return {};
    }
    if (status != cudaSuccess)
        return cuda_error("cudaHostRegister(" + std::to_string(bytes) + " bytes)", status);
    users_.emplace(base, 1);
    return {};
}

void host_pins::remove(std::byte* base) {
    auto known = users_.find(base);
    if (known == users_.end() || --known->second > 0)
        return;
    (void)cudaHostUnregister(base);
    users_.erase(known);
}

} // namespace kvferry
