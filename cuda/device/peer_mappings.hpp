// SPDX-License-Identifier: Apache-2.0
// Memory across processes and devices: handles of own allocations, mappings of peers' allocations.
// Serves one device; used on the thread of its actor.
#pragma once

#include "cuda/device/chunked_memory.hpp"
#include "cuda/device/copy_device.hpp"
#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <map>

namespace kvferry {

/// Lets kernels of device `from` address the memory of device `to`; one call is enough.
caf::error enable_peer(int from, int to);

/// registration_failed when [base, base + bytes) is neither inside one allocation nor made of
/// chunks.
caf::expected<exported_region> export_allocation(std::byte* base, std::uint64_t bytes, int ordinal);

/// Mappings of peers' allocations. The driver opens a handle only once per process and device, so
/// regions of one allocation share their mapping. Chunks are mapped anew for each region.
class peer_mappings {
public:
    explicit peer_mappings(int ordinal) : ordinal_(ordinal) {}
    peer_mappings(const peer_mappings&) = delete;
    peer_mappings& operator=(const peer_mappings&) = delete;
    ~peer_mappings() { close_all(); }

    /// The region's address for kernels of the device. unsupported with the obstacle that its owner
    /// reported, cuda_failed when the driver refuses. `chunks` came from the region's owner.
    caf::expected<std::byte*> open(const memory_region&, const device_chunks& chunks = {});

    /// Call once per success of open(), with its result.
    void close(const memory_region&, std::byte* address);
    void close_all();

private:
    struct opened {
        std::byte* base = nullptr;
        std::size_t users = 0;
    };

    caf::expected<std::byte*> open_chunks(const memory_region&, const device_chunks&);

    int ordinal_;
    std::map<byte_buffer, opened> by_handle_;
    /// By the region's address here.
    std::map<std::byte*, chunk_mapping> chunked_;
};

} // namespace kvferry
