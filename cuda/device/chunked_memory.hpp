// SPDX-License-Identifier: Apache-2.0
// VMM memory of one or many physical chunks, as expandable allocators make it: its chunks as
// descriptors, and a peer's chunks mapped into one range of addresses. Needs the toolkit's headers.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/device_chunks.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

/// The driver's allocations and mappings behind [base, base + bytes).
struct memory_extent {
    /// Where the first of them begins.
    std::uint64_t base = 0;
    /// Their sizes, in the order of their addresses.
    std::vector<std::uint64_t> parts;
    /// Made with cuMemMap, not with cudaMalloc or from a pool of the driver.
    bool chunked = false;
};

/// registration_failed when a part of the range is no memory of a device, or when the range spans
/// several allocations that are not chunks.
caf::expected<memory_extent> extent_of(const std::byte* base, std::uint64_t bytes);

/// unsupported when a chunk was made without a handle that can be exported, as a descriptor or as a
/// FABRIC handle, or when there are too many.
caf::expected<device_chunks> export_chunks(const memory_extent&);

/// unsupported when kernels of the device cannot address chunked memory of this process: whoever
/// mapped it gave access to other devices only.
caf::error check_access(const std::byte* base, int ordinal);

/// A peer's chunks, side by side at addresses of this process, for kernels of one device.
class chunk_mapping {
public:
    chunk_mapping() = default;
    chunk_mapping(const chunk_mapping&) = delete;
    chunk_mapping& operator=(const chunk_mapping&) = delete;
    chunk_mapping(chunk_mapping&&) noexcept;
    chunk_mapping& operator=(chunk_mapping&&) noexcept;
    ~chunk_mapping();

    /// The descriptors are not needed afterwards.
    static caf::expected<chunk_mapping> make(const device_chunks&, int ordinal);

    std::byte* base() const { return reinterpret_cast<std::byte*>(base_); }
    std::uint64_t bytes() const { return bytes_; }

private:
    caf::error map(const device_chunks&, int ordinal);

    std::uint64_t base_ = 0;
    std::uint64_t bytes_ = 0;
    /// Those that are mapped, from the first on.
    std::vector<std::uint64_t> mapped_;
};

} // namespace kvferry
