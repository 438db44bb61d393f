// SPDX-License-Identifier: Apache-2.0
// Cache memory on a device for programs other than inference engines: allocated, filled and read by
// the runtime's plain calls. Includes nothing of the toolkit.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace kvferry {

/// May be used from any thread. Every call waits for the device.
class device_pool {
public:
    virtual ~device_pool() = default;

    virtual std::byte* base() const = 0;
    virtual std::uint64_t bytes() const = 0;
    virtual int device() const = 0;

    /// Copies host to device, and back; [offset, offset + size) must lie in the pool.
    virtual caf::error write(std::uint64_t offset_bytes, std::span<const std::byte>) = 0;
    virtual caf::error read(std::uint64_t offset_bytes, std::span<std::byte>) const = 0;
    /// Sets all bytes to zero.
    virtual caf::error clear() = 0;

    /// The description for other processes.
    virtual caf::expected<memory_region> region() const = 0;
};

/// One end of a plain copy: memory on a device, or host memory of this process when `host` is set.
struct copy_end {
    memory_region device = {};
    std::byte* host = nullptr;
    std::uint64_t bytes = 0;
};

/// One plain copy by the driver between two pools: the baseline for transfers.
class pool_copy {
public:
    virtual ~pool_copy() = default;

    /// Copies the first `bytes` of the source to the target; blocks until done.
    virtual caf::error run(std::uint64_t bytes) = 0;
};

/// Makes a copy that `device` carries out. Maps memory of other processes and pins host memory for
/// as long as the result lives.
caf::expected<std::unique_ptr<pool_copy>> make_pool_copy(int device, const copy_end& source,
                                                         const copy_end& target);

/// Allocates with cudaMalloc or, given a size of chunks, as an expandable allocator does it.
/// unsupported without a device or without CUDA in this build, registration_failed when there is
/// not enough memory.
caf::expected<std::unique_ptr<device_pool>> make_device_pool(int ordinal, std::uint64_t bytes,
                                                             std::uint64_t chunk_bytes = 0);

} // namespace kvferry
