// SPDX-License-Identifier: Apache-2.0
// The runtime's calls behind exports and mappings.
#include "cuda/device/peer_mappings.hpp"

#include "cuda/device/capture_mode.hpp"
#include "cuda/device/cuda_copy_device.hpp"
#include "cuda/device/cuda_error.hpp"
#include "cuda/device/process_number.hpp"

#include <array>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

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

} // namespace

caf::expected<int> cuda_device_of(const std::byte* address) {
    const relaxed_capture_mode here;
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

caf::expected<exported_region> export_allocation(std::byte* base, std::uint64_t bytes,
                                                 int ordinal) {
    auto whole = extent_of(base, bytes);
    if (!whole)
        return std::move(whole.error());
    exported_region result;
    auto& how = result.how;
    how.process = process_number();
    how.offset_bytes = reinterpret_cast<std::uint64_t>(base) - whole->base;
    cudaDeviceProp properties{};
    if (auto status = cudaGetDeviceProperties(&properties, ordinal); status != cudaSuccess)
        return cuda_error("cudaGetDeviceProperties", status);
    how.device = name_of(properties.uuid);
    if (whole->chunked) {
        how.obstacle = "memory made of chunks, ";
        if (auto chunks = export_chunks(*whole)) {
            result.chunks = std::move(*chunks);
            how.obstacle += "whose descriptors have not come over a same-host link";
        } else {
            how.obstacle += "and " + text_of(chunks.error());
        }
        return result;
    }
    cudaIpcMemHandle_t handle{};
    const auto status = cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(whole->base));
    if (status == cudaSuccess) {
        how.handle.resize(sizeof(handle));
        std::memcpy(how.handle.data(), &handle, sizeof(handle));
    } else {
        how.obstacle = text_of(cuda_error("cudaIpcGetMemHandle", status))
                       + "; only memory of cudaMalloc has such a handle";
    }
    return result;
}

// -- mappings -------------------------------------------------------------------------------

void peer_mappings::close_all() {
    for (auto& [handle, x] : std::exchange(by_handle_, {}))
        (void)cudaIpcCloseMemHandle(x.base);
    chunked_.clear();
}

caf::expected<std::byte*> peer_mappings::open(const memory_region& region,
                                              const device_chunks& chunks) {
    const auto& how = region.on_device;
    if (how.process == process_number()) {
        auto* address = reinterpret_cast<std::byte*>(region.base_address);
        auto where = cuda_device_of(address);
        if (!where)
            return std::move(where.error());
        if (auto error = enable_peer(ordinal_, *where))
            return error;
        if (auto error = check_access(address, ordinal_))
            return error;
        return address;
    }
    if (!chunks.empty())
        return open_chunks(region, chunks);
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

caf::expected<std::byte*> peer_mappings::open_chunks(const memory_region& region,
                                                     const device_chunks& chunks) {
    auto mapping = chunk_mapping::make(chunks, ordinal_);
    if (!mapping)
        return add_context(mapping.error(), "memory of " + region.on_device.device);
    const auto offset = region.on_device.offset_bytes;
    if (offset > mapping->bytes() || region.bytes > mapping->bytes() - offset)
        return make_error(errc::registration_failed,
                          std::to_string(chunks.size()) + " chunks have "
                              + std::to_string(mapping->bytes())
                              + " bytes, less than the region that they were sent for");
    auto* address = mapping->base() + offset;
    chunked_.emplace(address, std::move(*mapping));
    return address;
}

void peer_mappings::close(const memory_region& region, std::byte* address) {
    if (chunked_.erase(address) > 0)
        return;
    auto found = by_handle_.find(region.on_device.handle);
    if (found == by_handle_.end() || --found->second.users > 0)
        return;
    (void)cudaIpcCloseMemHandle(found->second.base);
    by_handle_.erase(found);
}

} // namespace kvferry
