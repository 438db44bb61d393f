// SPDX-License-Identifier: Apache-2.0
// Memory across processes and devices: handles of own allocations, mappings of peers' allocations,
// pinned host memory. Serves one device; used on the thread of its actor.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <map>

namespace kvferry {

/// Lets kernels of device `from` address the memory of device `to`; one call is enough.
caf::error enable_peer(int from, int to);

/// registration_failed when [base, base + bytes) is not inside one allocation.
caf::expected<device_export> export_allocation(std::byte* base, std::uint64_t bytes, int ordinal);

/// Mappings of peers' allocations. The driver opens a handle only once per process and device, so
/// regions of one allocation share their mapping.
class peer_mappings {
public:
    explicit peer_mappings(int ordinal) : ordinal_(ordinal) {}
    peer_mappings(const peer_mappings&) = delete;
    peer_mappings& operator=(const peer_mappings&) = delete;
    ~peer_mappings();

    /// The region's address for kernels of the device. unsupported with the obstacle that its owner
    /// reported, cuda_failed when the driver refuses.
    caf::expected<std::byte*> open(const memory_region&);

    /// Call once per success of open().
    void close(const memory_region&);

private:
    struct opened {
        std::byte* base = nullptr;
        std::size_t users = 0;
    };

    int ordinal_;
    std::map<byte_buffer, opened> by_handle_;
};

/// Host memory that the device addresses under the host's own addresses.
class host_pins {
public:
    host_pins() = default;
    host_pins(const host_pins&) = delete;
    host_pins& operator=(const host_pins&) = delete;
    ~host_pins();

    /// Memory that other code has pinned stays pinned and is not unpinned here.
    caf::error add(std::byte* base, std::uint64_t bytes);
    void remove(std::byte* base);

private:
    std::map<std::byte*, std::size_t> users_;
};

} // namespace kvferry
