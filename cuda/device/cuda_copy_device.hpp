// SPDX-License-Identifier: Apache-2.0
// A GPU as an executor of plans: three streams, one small upload per plan, one event per launch.
// Includes nothing of the toolkit; in builds without it both functions answer unsupported.
#pragma once

#include "cuda/device/copy_device.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace kvferry {

struct cuda_copy_device_options {
    int ordinal = 0;
    /// Other devices of this process whose memory it copies from or to. Makes a context on each.
    std::vector<int> peers;
    /// Multiprocessors that copies may take from the host's own kernels. The express lane takes a
    /// quarter while it has something in flight. Every lane takes at least one.
    std::uint32_t multiprocessors = 32;
    std::uint32_t threads_per_block = 1024;
};

/// cuda_failed when the device or a peer cannot be used. Keeps the caller's current device. The
/// first call for a device makes its context (some 100 ms).
caf::expected<std::unique_ptr<copy_device>> make_cuda_copy_device(cuda_copy_device_options);

/// Ordinal of the device that owns an address. registration_failed when it is not device memory,
/// unsupported when there is no device or driver.
caf::expected<int> cuda_device_of(const std::byte* address);

} // namespace kvferry
